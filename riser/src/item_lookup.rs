//! From what a person types to an item of the catalog.

use crate::failure::{Hint, Usage};
use riser_core::ids::ItemIndex;

/// Most suggestions made for a title that is not in the catalog.
const MAX_SUGGESTIONS: usize = 5;

/// Likeness below which a title is not worth suggesting.
const LEAST_LIKENESS: f64 = 0.4;

/// Finds an item by its id, or by its title whatever the case.
///
/// # Errors
/// [`Usage`] with the most similar titles as a hint.
pub(crate) fn find<'a>(
    typed: &str,
    items: impl Iterator<Item = (ItemIndex, &'a str, &'a str)> + Clone,
) -> anyhow::Result<ItemIndex> {
    if let Some((index, ..)) = items.clone().find(|(_, id, _)| *id == typed) {
        return Ok(index);
    }
    let wanted = typed.trim().to_lowercase();
    if let Some((index, ..)) = items.clone().find(|(_, _, title)| title.to_lowercase() == wanted) {
        return Ok(index);
    }
    let suggestions = suggest(&wanted, items.map(|(_, _, title)| title));
    Err(Usage(format!("`{typed}` is neither a title nor an id of the catalog"))).hint(|| match suggestions.as_slice() {
        [] => "no title is similar; items.parquet in the data folder lists all of them".to_owned(),
        titles => format!(
            "did you mean {}?",
            titles.iter().map(|title| format!("\"{title}\"")).collect::<Vec<_>>().join(" or ")
        ),
    })
}

/// The titles most like `wanted`, which is in lower case, best first.
fn suggest<'a>(wanted: &str, titles: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut scored: Vec<(f64, &str)> = titles
        .map(|title| {
            let lower = title.to_lowercase();
            // People type the beginning of a long title; its ending must not count against it.
            let beginning: String = lower.chars().take(wanted.chars().count()).collect();
            let likeness = strsim::sorensen_dice(wanted, &lower).max(strsim::sorensen_dice(wanted, &beginning));
            let contained = if !wanted.is_empty() && lower.contains(wanted) { 0.5 } else { 0.0 };
            (likeness + contained, title)
        })
        .filter(|(likeness, _)| *likeness >= LEAST_LIKENESS)
        .collect();
    scored.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(other.1)));
    scored.dedup_by_key(|(_, title)| *title);
    scored.into_iter().take(MAX_SUGGESTIONS).map(|(_, title)| title).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEMS: [(ItemIndex, &str, &str); 4] = [
        (ItemIndex(0), "B1", "Final Fantasy XV"),
        (ItemIndex(1), "B2", "Final Fantasy X"),
        (ItemIndex(2), "B3", "Persona 5"),
        (ItemIndex(3), "B4", "Persona 5"),
    ];

    fn find(typed: &str) -> anyhow::Result<ItemIndex> {
        super::find(typed, ITEMS.into_iter())
    }

    #[test]
    fn ids_and_titles_of_any_case_are_found() {
        assert_eq!(find("B3").unwrap(), ItemIndex(2));
        assert_eq!(find(" final fantasy x ").unwrap(), ItemIndex(1));
    }

    #[test]
    fn similar_titles_are_suggested_once_and_best_first() {
        assert!(find("Final Fantsy XV").is_err());
        let titles = || ITEMS.iter().map(|item| item.2);
        assert_eq!(suggest("final fantsy xv", titles())[0], "Final Fantasy XV");
        assert_eq!(suggest("persona", titles()), ["Persona 5"]);
        assert_eq!(suggest("silent kingdm", ["Silent Kingdom III - Collector's Edition - Box"].into_iter()).len(), 1);
        assert_eq!(suggest("zzzz", titles()), Vec::<&str>::new());
    }
}
