//! `riser recommend`: the next items for a history typed on the command line.

use crate::cli::{Format, Recommend, Settings};
use crate::failure::{Hint, Usage};
use crate::{item_lookup, model_folder, output, start, table};
use riser::ranking::Search;
use riser_core::data_folder::DataFolder;
use riser_core::ids::ItemIndex;
use riser_core::spelling::SpellingError;
use riser_policy::ranking;
use std::num::NonZeroUsize;

/// Prints the most probable items, best first.
pub(crate) fn run(arguments: &Recommend, format: Format) -> anyhow::Result<()> {
    if arguments.top == 0 {
        return Err(Usage("`--top 0` asks for nothing".to_owned())).hint(|| "ask for at least 1 item".to_owned());
    }
    let mut config = Settings::default().resolve_for(&arguments.checkpoint)?;
    if let Some(path) = &arguments.data {
        config.data.path = Some(path.clone());
    }
    let data = start::data(config.data_path()?)?;
    let history = history(&arguments.history, &data)?;
    let parameters = start::fitting(model_folder::load(&arguments.checkpoint)?, &data, &arguments.checkpoint)?;

    let titles: Vec<&str> = history.iter().map(|item| data.dataset().item(*item).title.as_str()).collect();
    let prompt = data.speller().prompt_tokens(&titles, config.model.max_prompt_tokens).map_err(too_long)?;
    // Items of the history may take the first places; they are ranked too and left out afterwards.
    let num_ranked = if arguments.repeats { arguments.top } else { arguments.top + history.len() };
    let search =
        Search { top_k: num_ranked, ..Search::of(&config.evaluate, config.model.max_prompt_tokens, NonZeroUsize::MIN) };
    let lists = search.spellings(&parameters.inference()?, data.tree(), &[&prompt])?;
    let ranked: Vec<(ItemIndex, f64)> = lists
        .iter()
        .flat_map(|list| ranking::items(data.tree(), list))
        .filter(|(item, _)| arguments.repeats || !history.contains(item))
        .take(arguments.top)
        .collect();
    print(&ranked, &data, format)
}

fn history(typed: &[String], data: &DataFolder) -> anyhow::Result<Vec<ItemIndex>> {
    let items = data.dataset().items();
    let named =
        items.iter().enumerate().map(|(at, item)| (ItemIndex(at as u32), item.id.as_str(), item.title.as_str()));
    typed.iter().map(|text| item_lookup::find(text, named.clone())).collect()
}

fn too_long(error: SpellingError) -> anyhow::Error {
    Usage(format!("the history cannot be written as a prompt: {error}")).into()
}

fn print(ranked: &[(ItemIndex, f64)], data: &DataFolder, format: Format) -> anyhow::Result<()> {
    let item = |index: ItemIndex| data.dataset().item(index);
    match format {
        Format::Json => {
            let list: Vec<_> = ranked
                .iter()
                .map(|(index, score)| {
                    serde_json::json!({ "id": item(*index).id, "title": item(*index).title, "probability": score.exp() })
                })
                .collect();
            output::json(&list)
        }
        Format::Text => {
            let rows: Vec<Vec<String>> = ranked
                .iter()
                .map(|(index, score)| {
                    let item = item(*index);
                    vec![item.title.clone(), item.id.clone(), format!("{:.2}%", 100.0 * score.exp())]
                })
                .collect();
            output::data(table::render(&["title", "id", "probability"], &rows))
        }
    }
}
