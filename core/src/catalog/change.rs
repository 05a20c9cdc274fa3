//! What a new data folder means for a run that is under way: which prompts stay, and whether the change is possible at all.
//!
//! Histories and targets stay those of the run's own data; of the new folder only the catalog is taken. So the tokenizer and the
//! template must be the same, and an item that stays must be spelled as before: else the policy would know it under another
//! spelling than it learned. Items may come, go and move to other places in the list; a prompt whose target went is left out.

use crate::{
    data_folder::{DataFolder, PromptRow, TEMPLATE, TOKENIZER},
    ids::ItemIndex,
};
use serde::Serialize;
use std::collections::HashMap;

/// What a change of catalog does to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogChange {
    /// The place of each of the run's own items in the new catalog; `None` if it went.
    places: Vec<Option<ItemIndex>>,
    extent: ChangeExtent,
}

/// How much a change of catalog changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ChangeExtent {
    /// Items that are new.
    pub added: u64,
    /// Items that went.
    pub removed: u64,
    /// Prompts that are left out because their target went.
    pub skipped: u64,
}

/// Why a catalog cannot take the place of another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Incompatible {
    /// A file that must be the same is another.
    #[error("the new catalog has another {file}: a policy reads one tokenizer and one template")]
    File {
        /// Its name.
        file: &'static str,
    },
    /// An item that stays is spelled otherwise.
    #[error(
        "item `{id}` is spelled {new:?} in the new catalog and {old:?} in the old one: what stays must be spelled alike"
    )]
    Respelled {
        /// Its id.
        id: String,
        /// Tokens before.
        old: Vec<u32>,
        /// Tokens now.
        new: Vec<u32>,
    },
    /// No prompt has its target any more.
    #[error("none of the {prompts} prompts has its target in the new catalog")]
    NoPrompts {
        /// Prompts of the run.
        prompts: usize,
    },
}

impl CatalogChange {
    /// What it means for a run on `old` to go on with the catalog of `new`.
    ///
    /// # Errors
    /// [`Incompatible`] names the first thing that forbids it.
    pub fn between(old: &DataFolder, new: &DataFolder) -> Result<Self, Incompatible> {
        for file in [TOKENIZER, TEMPLATE] {
            let digest = |folder: &DataFolder| folder.manifest().files.get(file).map(|entry| entry.digest);
            if digest(old) != digest(new) {
                return Err(Incompatible::File { file });
            }
        }
        let indexed = new.dataset().items().iter().zip(0..);
        let known: HashMap<&str, ItemIndex> =
            indexed.map(|(item, index)| (item.id.as_str(), ItemIndex(index))).collect();
        let mut places = Vec::with_capacity(old.dataset().items().len());
        for (item, index) in old.dataset().items().iter().zip(0..) {
            let place = known.get(item.id.as_str()).copied();
            if let Some(place) = place {
                let (old, new) = (old.item_tokens(ItemIndex(index)), new.item_tokens(place));
                if old != new {
                    return Err(Incompatible::Respelled { id: item.id.clone(), old, new });
                }
            }
            places.push(place);
        }
        let stayed = places.iter().flatten().count();
        let (added, removed) = ((known.len() - stayed) as u64, (places.len() - stayed) as u64);
        let mut change = Self { places, extent: ChangeExtent { added, removed, skipped: 0 } };
        let (prompts, left) = (old.rl_train().len(), change.rows(old, old.rl_train()).len());
        if left == 0 {
            return Err(Incompatible::NoPrompts { prompts });
        }
        change.extent.skipped = (prompts - left) as u64;
        Ok(change)
    }

    /// How much it changes.
    pub fn extent(&self) -> ChangeExtent {
        self.extent
    }

    /// The place of one of the run's own items in the new catalog; `None` if it went.
    pub fn place(&self, item: ItemIndex) -> Option<ItemIndex> {
        self.places.get(item.0 as usize).copied().flatten()
    }

    /// Those of `rows` of the run's own data whose target stays, in their order, each with its target's new place.
    pub fn rows(&self, data: &DataFolder, rows: &[PromptRow]) -> Vec<(PromptRow, ItemIndex)> {
        rows.iter().filter_map(|&row| Some((row, self.place(data.row(row).target)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dataset::{BadRecords, interactions::InteractionOptions},
        prepare::{PrepareOptions, Source, TemplateOptions, TokenizerOptions, prepare},
    };
    use std::path::Path;

    /// Prepares a folder named `name` from a list of (id, title), with 20 users who walk through all of `i0` to `i29`, and one
    /// who chose `new`. Choices of what is not on the list are dropped.
    fn folder(
        root: &Path,
        name: &str,
        items: &[(String, String)],
        change: impl FnOnce(&mut PrepareOptions),
    ) -> DataFolder {
        let list: String = items.iter().map(|(id, title)| format!("{id},{title}\n")).collect();
        let walk = |user: u32| {
            (0..12).map(move |step| format!("u{user},i{},{}\n", (user * 7 + step * 5) % 30, step * 20 + user))
        };
        let log: String = (0..20).flat_map(walk).collect();
        let (item_file, log_file) = (root.join(format!("{name}-items.csv")), root.join(format!("{name}-log.csv")));
        std::fs::write(&item_file, format!("id,title\n{list}")).unwrap();
        std::fs::write(&log_file, format!("user,item,time\n{log}u0,new,5\n")).unwrap();
        let source = InteractionOptions {
            interactions: log_file,
            items: item_file,
            format: None,
            user_column: "user".to_owned(),
            item_column: "item".to_owned(),
            time_column: Some("time".to_owned()),
            rating_column: None,
            min_rating: None,
            item_id_column: "id".to_owned(),
            title_column: "title".to_owned(),
            split: crate::dataset::split::SplitOptions { train_share: 0.3, valid_share: 0.5, ..Default::default() },
        };
        let mut options = PrepareOptions::new(Source::Interactions(source));
        options.bad_records = BadRecords::Drop;
        change(&mut options);
        prepare(&options, &root.join(name), &mut |_| {}).unwrap()
    }

    fn items() -> Vec<(String, String)> {
        (0..30).map(|number| (format!("i{number}"), format!("Item number {number}"))).collect()
    }

    /// The next catalog is spelled with the tokenizer of the first.
    fn same_tokenizer(root: &Path) -> impl FnOnce(&mut PrepareOptions) {
        let first = root.join("first");
        move |options| options.tokenizer = TokenizerOptions::Folder(first)
    }

    #[test]
    fn prompts_follow_their_targets_to_new_places_and_those_whose_target_went_are_counted() {
        let root = tempfile::tempdir().unwrap();
        let first = folder(root.path(), "first", &items(), |_| ());
        let mut list = items();
        list.retain(|(id, _)| !["i3", "i10", "i11"].contains(&id.as_str()));
        list.push(("new".to_owned(), "A newcomer".to_owned()));
        list.reverse();
        let next = folder(root.path(), "next", &list, same_tokenizer(root.path()));
        let change = CatalogChange::between(&first, &next).unwrap();
        let id = |folder: &DataFolder, item| folder.dataset().item(item).id.clone();
        let prompts = change.rows(&first, first.rl_train());
        for &(row, target) in &prompts {
            assert_eq!(id(&next, target), id(&first, first.row(row).target));
        }
        let went = |&&row: &&PromptRow| ["i3", "i10", "i11"].contains(&id(&first, first.row(row).target).as_str());
        let ChangeExtent { added, removed, skipped } = change.extent();
        let skipped = skipped as usize;
        assert_eq!(skipped, first.rl_train().iter().filter(went).count());
        assert!(skipped > 0);
        assert_eq!(prompts.len() + skipped, first.rl_train().len());
        assert_eq!((added, removed), (1, 3));
        let same = CatalogChange::between(&first, &first).unwrap().extent();
        assert_eq!(same, ChangeExtent { added: 0, removed: 0, skipped: 0 });
    }

    #[test]
    fn a_catalog_that_the_policy_could_not_read_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        let first = folder(root.path(), "first", &items(), |_| ());
        let refused = |next: &DataFolder| CatalogChange::between(&first, next).unwrap_err();
        let titles = || items().into_iter().map(|(id, title)| (id, title.replace("Item", "Thing")));
        let trained = folder(root.path(), "trained", &titles().collect::<Vec<_>>(), |_| ());
        assert_eq!(refused(&trained), Incompatible::File { file: TOKENIZER });
        let renamed = folder(root.path(), "renamed", &titles().collect::<Vec<_>>(), same_tokenizer(root.path()));
        assert!(
            matches!(refused(&renamed), Incompatible::Respelled { id, .. } if id == renamed.dataset().item(ItemIndex(0)).id)
        );
        let written = folder(root.path(), "written", &items(), |options| {
            same_tokenizer(root.path())(options);
            let mut template = TemplateOptions::default().template();
            template.separator.push(' ');
            options.template = TemplateOptions::Custom(template);
        });
        assert_eq!(refused(&written), Incompatible::File { file: TEMPLATE });
        let others: Vec<_> = items().into_iter().map(|(id, title)| (id.replace('i', "x"), title)).collect();
        let others = folder_of_strangers(root.path(), &others);
        assert_eq!(refused(&others), Incompatible::NoPrompts { prompts: first.rl_train().len() });
    }

    /// A folder that has no item in common with the others.
    fn folder_of_strangers(root: &Path, items: &[(String, String)]) -> DataFolder {
        let same = same_tokenizer(root);
        folder(root, "strangers", items, |options| {
            same(options);
            let Source::Interactions(source) = &mut options.source else { return };
            let log = std::fs::read_to_string(&source.interactions).unwrap().replace(",i", ",x");
            std::fs::write(&source.interactions, log.replacen("user,xtem", "user,item", 1)).unwrap();
        })
    }
}
