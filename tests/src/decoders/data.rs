//! What a data set is prepared from, and what a data folder holds besides its manifest and its prefix tree.

use super::{Decoder, FEW, Layout, MANY};
use riser_core::{
    data_folder::tables,
    dataset::{
        BadRecords, Dataset, FileFormat, Item, Row, Split, d3,
        interactions::{self, InteractionOptions},
        split::{self, SplitOptions, SplitRule},
    },
    ids::{ItemIndex, RowId},
    spelling::{BpeSettings, Speller, Template, train_bpe},
};
use std::{fs, path::Path};

const TITLES: [&str; 4] =
    ["Harbor Lights - Switch", "Harbor Lights II", "Caf\u{e9} Owner \u{2605}", "It's \"ten\", [ten]"];

fn items() -> Vec<Item> {
    TITLES.iter().enumerate().map(|(id, title)| Item { id: id.to_string(), title: (*title).to_owned() }).collect()
}

fn rows() -> Vec<Row> {
    let row = |history: &[u32], user: Option<&str>| Row {
        id: RowId(0),
        user: user.map(str::to_owned),
        history: history.iter().copied().map(ItemIndex).collect(),
        target: ItemIndex(3),
        time: user.map(|_| 1_495_843_200),
    };
    vec![row(&[0, 1], Some("A1")), row(&[2], None)]
}

fn dataset() -> Dataset {
    Dataset::new(items(), rows(), rows(), vec![]).unwrap()
}

/// Lets `read` have a file of these bytes.
fn with_file<T>(bytes: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, bytes).unwrap();
    read(&path)
}

pub(super) const ITEM_TABLE: Decoder = Decoder {
    name: "item_table",
    layout: Layout::Plain,
    samples: || vec![tables::write_items(&items(), &vec![vec![5, 6, 2]; TITLES.len()]).unwrap()],
    inputs: FEW,
    decode: |bytes| {
        let Ok(items) = with_file(bytes, tables::read_items) else { return false };
        let written = tables::write_items(&items, &vec![vec![]; items.len()]).unwrap();
        assert_eq!(with_file(&written, tables::read_items).unwrap(), items);
        true
    },
};

pub(super) const ROW_TABLE: Decoder = Decoder {
    name: "row_table",
    layout: Layout::Plain,
    samples: || vec![tables::write_rows(&rows()).unwrap()],
    inputs: FEW,
    decode: |bytes| {
        let Ok(rows) = with_file(bytes, tables::read_rows) else { return false };
        let written = tables::write_rows(&rows).unwrap();
        assert_eq!(with_file(&written, tables::read_rows).unwrap(), rows);
        let _ = Dataset::new(items(), rows, vec![], vec![]);
        true
    },
};

pub(super) const PROMPT_TABLE: Decoder = Decoder {
    name: "prompt_table",
    layout: Layout::Plain,
    samples: || vec![tables::write_prompts(&[(Split::Valid, RowId(1)), (Split::Train, RowId(0))]).unwrap()],
    inputs: FEW,
    decode: |bytes| {
        let dataset = dataset();
        let read = |bytes: &[u8]| with_file(bytes, |path| tables::read_prompts(path, &dataset));
        let Ok(prompts) = read(bytes) else { return false };
        assert!(prompts.iter().all(|(split, row)| (row.0 as usize) < dataset.rows(*split).len()));
        assert_eq!(read(&tables::write_prompts(&prompts).unwrap()).unwrap(), prompts);
        true
    },
};

pub(super) const TOKENIZER: Decoder = Decoder {
    name: "tokenizer",
    layout: Layout::Text,
    samples: || {
        let tokenizer = train_bpe(&TITLES, &BpeSettings { vocab_size: 280, min_frequency: 2 }).unwrap();
        vec![tokenizer.to_string(false).unwrap().into_bytes()]
    },
    inputs: FEW,
    decode: |bytes| {
        let open = |bytes: &[u8]| with_file(bytes, |path| Speller::open(path, Template::tokens()));
        let Ok(speller) = open(bytes) else { return false };
        // The library does not read everything again that it has written; a preparation opens its folder and says so.
        let Some(again) = speller.tokenizer_json().ok().and_then(|json| open(json.as_bytes()).ok()) else {
            return false;
        };
        for title in TITLES {
            let (tokens, same) = (speller.item_tokens(title).ok(), again.item_tokens(title).ok());
            assert_eq!(tokens, same);
            let Some(tokens) = tokens else { continue };
            assert!(tokens.iter().all(|token| (*token as usize) < speller.vocab_size()));
            let _ = speller.decode(&tokens);
        }
        let _ = speller.prompt_tokens(&TITLES, 20);
        true
    },
};

pub(super) const TEMPLATE: Decoder = Decoder {
    name: "template",
    layout: Layout::Text,
    samples: || {
        [Template::tokens(), Template::d3()].map(|template| toml::to_string(&template).unwrap().into_bytes()).into()
    },
    inputs: MANY,
    decode: |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return false };
        let Ok(template) = toml::from_str::<Template>(text) else { return false };
        assert_eq!(toml::from_str::<Template>(&toml::to_string(&template).unwrap()).unwrap(), template);
        if template.check().is_err() {
            return false;
        }
        assert!(template.target_text("{title}").contains("{title}"));
        assert!(template.prompt_text(&TITLES).contains(TITLES[3]));
        true
    },
};

/// Divides an input that stands for two files.
const NEXT_FILE: u8 = 0x1c;

fn two_files(bytes: &[u8]) -> (&[u8], &[u8]) {
    let at = bytes.iter().position(|byte| *byte == NEXT_FILE).unwrap_or(bytes.len());
    (&bytes[..at], bytes.get(at + 1..).unwrap_or_default())
}

/// What rows can mean.
fn check_dataset(dataset: &Dataset, history_length: usize) {
    for row in Split::ALL.into_iter().flat_map(|split| dataset.rows(split)) {
        assert!((1..=history_length).contains(&dataset.history_titles(row).len()));
        assert!(!dataset.item(row.target).title.is_empty());
    }
}

pub(super) const D3: Decoder = Decoder {
    name: "d3",
    layout: Layout::Text,
    samples: || {
        let list = "One\tDay\t7\nTwo \"and\" a half\t8\r\n<a_1><b_2>\tThree\t9\n";
        let rows = "user_id,history_item_id,item_id,item_title,timestamp\r\n\
                    A1,\"[7, '9', \"\"8\"\"]\",8,\"Two \"\"and\"\" a half\",1495843200\r\n\
                    A2,['\\x37'],9,Three,1e9\r\n";
        vec![[list.as_bytes(), &[NEXT_FILE], rows.as_bytes()].concat()]
    },
    inputs: FEW,
    decode: |bytes| {
        let folder = tempfile::tempdir().unwrap();
        let (list, rows) = two_files(bytes);
        for (name, content) in [
            ("info/x.txt", list),
            ("train/x.csv", rows),
            ("valid/x.csv", rows),
            ("test/x.csv", b"history_item_id,item_id\n"),
        ] {
            let path = folder.path().join(name);
            fs::create_dir(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let [strict, lenient] = [BadRecords::Error, BadRecords::Drop].map(|bad| d3::read(folder.path(), 2, bad));
        if let Ok((dataset, _)) = &lenient {
            check_dataset(dataset, 2);
        }
        // What has no mistake is read in both ways alike.
        let Ok(strict) = strict else { return false };
        assert_eq!(lenient.unwrap(), strict);
        true
    },
};

pub(super) const INTERACTIONS: Decoder = Decoder {
    name: "interactions",
    layout: Layout::Text,
    samples: || {
        let csv = [
            "id,title\na,\"Alpha, \"\"A\"\"\"\nb,Beta\n",
            "user,item,when,stars\nu,a,1,5\nu,b,2.5,4\nv,b,1e9,3\nv,a,7,1\n",
        ];
        let jsonl = [
            "{\"id\": \"a\", \"title\": \"Alpha\"}\n{\"id\": 2, \"title\": \"Beta\"}\n",
            "{\"user\": \"u\", \"item\": \"a\", \"when\": 1, \"stars\": 5}\n{\"user\": \"u\", \"item\": 2, \"when\": \"2\", \"stars\": 4.5}\n",
        ];
        let tsv = ["title\tid\nAlpha, \"A\"\ta\nBeta\tb\n", "user\titem\twhen\tstars\nu\tb\t1\t5\nu\ta\t2\t5\n"];
        [csv, jsonl, tsv].map(|[items, log]| [items.as_bytes(), &[NEXT_FILE], log.as_bytes()].concat()).into()
    },
    inputs: FEW,
    decode: |bytes| {
        let folder = tempfile::tempdir().unwrap();
        let (items, log) = two_files(bytes);
        let path = |name: &str| folder.path().join(name);
        fs::write(path("items"), items).unwrap();
        fs::write(path("log"), log).unwrap();
        let accepts = |format| {
            let mut options: InteractionOptions = toml::from_str(INTERACTION_OPTIONS).unwrap();
            (options.items, options.interactions, options.format) = (path("items"), path("log"), Some(format));
            let [strict, lenient] = [BadRecords::Error, BadRecords::Drop].map(|bad| interactions::read(&options, bad));
            for log in lenient.iter() {
                for rule in [SplitRule::Time, SplitRule::LeaveOneOut] {
                    if let Ok(dataset) = split::split(log.clone(), &SplitOptions { rule, ..SplitOptions::default() }, 2)
                    {
                        check_dataset(&dataset, 2);
                    }
                }
            }
            strict.is_ok_and(|strict| lenient.unwrap() == strict)
        };
        [FileFormat::Csv, FileFormat::Tsv, FileFormat::Jsonl].map(accepts).contains(&true)
    },
};

const INTERACTION_OPTIONS: &str = "
interactions = 'log'
items = 'items'
time_column = 'when'
rating_column = 'stars'
min_rating = 2";
