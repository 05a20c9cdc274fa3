//! Arguments of `riser prepare`.

use clap::{Args, Subcommand, ValueEnum};
use riser_core::dataset::d3::D3Options;
use riser_core::dataset::interactions::InteractionOptions;
use riser_core::dataset::split::{Repeats, SplitOptions, SplitRule};
use riser_core::dataset::{BadRecords, FileFormat};
use riser_core::prepare::{PrepareOptions, PromptOptions, PromptSource, Source, TemplateOptions, TokenizerOptions};
use riser_core::random::Seed;
use riser_core::spelling::BpeSettings;
use riser_core::synthetic::WorldOptions;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    riser prepare d3 amazon_games_d3 data/games\n  \
    riser prepare interactions log.csv items.csv data/shop --user-column customer --time-column bought_at\n  \
    riser prepare synthetic data/toy --items 200")]
pub(crate) struct Prepare {
    #[command(subcommand)]
    pub(crate) source: PrepareSource,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PrepareSource {
    /// Reads a folder of the D3 family, which is already split.
    D3 {
        /// Folder with `info`, `train` (or `derived/train`), `valid` and `test`.
        path: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Reads a log of interactions and a list of items (.csv, .tsv or .jsonl, each also with .gz).
    Interactions(Box<Interactions>),
    /// Generates a catalog and users with hidden preferences.
    Synthetic {
        #[command(flatten)]
        common: Common,
        /// Items of the catalog.
        #[arg(long, default_value_t = WorldOptions::default().items)]
        items: usize,
        /// Number of users.
        #[arg(long, default_value_t = WorldOptions::default().users)]
        users: usize,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Interactions {
    /// The log: one line per interaction.
    interactions: PathBuf,
    /// The item list: one line per item.
    items: PathBuf,
    #[command(flatten)]
    common: Common,
    /// Format of both files, if their endings do not tell.
    #[arg(long, value_name = "csv|tsv|jsonl", value_parser = file_format)]
    file_format: Option<FileFormat>,
    /// Column of the log with the user.
    #[arg(long, default_value = "user")]
    user_column: String,
    /// Column of the log with the item's id.
    #[arg(long, default_value = "item")]
    item_column: String,
    /// Column of the log with the time, a number; without it lines are in order of time.
    #[arg(long)]
    time_column: Option<String>,
    /// Column of the log with the rating.
    #[arg(long, requires = "min_rating")]
    rating_column: Option<String>,
    /// Interactions with a lower rating are not used.
    #[arg(long, requires = "rating_column")]
    min_rating: Option<f64>,
    /// Column of the item list with the id.
    #[arg(long, default_value = "id")]
    item_id_column: String,
    /// Column of the item list with the title.
    #[arg(long, default_value = "title")]
    title_column: String,
    /// Removes users and items with fewer interactions, until none is left to remove; 0 keeps items that nobody has chosen yet.
    #[arg(long, default_value_t = SplitOptions::default().min_interactions)]
    min_interactions: usize,
    /// Keeps only the first interaction of a user with an item.
    #[arg(long)]
    first_only: bool,
    /// Where the splits are cut.
    #[arg(long, value_enum, default_value_t = Split::Time)]
    split: Split,
    /// Share of the rows that train, for `--split time`.
    #[arg(long, default_value_t = SplitOptions::default().train_share)]
    train_share: f64,
    /// Share of the rows that validate, for `--split time`; the rest tests.
    #[arg(long, default_value_t = SplitOptions::default().valid_share)]
    valid_share: f64,
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Folder to write.
    pub(crate) out: PathBuf,
    /// Most items of a history; the newest are kept.
    #[arg(long, default_value_t = 10)]
    history_length: usize,
    /// What happens to records that cannot be used.
    #[arg(long, value_enum, default_value_t = Bad::Error)]
    bad_records: Bad,
    /// Hugging Face folder whose tokenizer spells the titles; without it one is trained on them.
    #[arg(long, value_name = "FOLDER", conflicts_with = "vocab_size")]
    tokenizer: Option<PathBuf>,
    /// Largest size of a trained tokenizer.
    #[arg(long, default_value_t = BpeSettings::default().vocab_size)]
    vocab_size: usize,
    /// How prompts and items are written.
    #[arg(long, value_enum, default_value_t = Template::Tokens)]
    template: Template,
    /// Rows whose histories are the prompts of the reinforcement stage.
    #[arg(long, value_enum, default_value_t = Prompts::Valid)]
    prompts: Prompts,
    /// Share of the validation rows kept aside to watch the reinforcement stage, for `--prompts valid`.
    #[arg(long, default_value_t = PromptOptions::default().watch_share)]
    watch_share: f64,
    /// Seed of the draws.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Split {
    /// By the time of the target, the same moment for all users.
    Time,
    /// The last interaction of each user tests, the last but one validates.
    LeaveOneOut,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Bad {
    /// The first one is an error.
    Error,
    /// They are left out and counted.
    Drop,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Template {
    /// Special tokens around bare titles, for models that start from scratch.
    Tokens,
    /// The instruction of D3, for pretrained models.
    D3,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Prompts {
    /// Rows that the supervised stage has not learned from.
    Valid,
    /// Rows that the supervised stage has learned from.
    Train,
}

fn file_format(text: &str) -> Result<FileFormat, String> {
    match text {
        "csv" => Ok(FileFormat::Csv),
        "tsv" => Ok(FileFormat::Tsv),
        "jsonl" => Ok(FileFormat::Jsonl),
        _ => Err("expected csv, tsv or jsonl".to_owned()),
    }
}

impl PrepareSource {
    /// The options of the preparation and the folder to write.
    pub(crate) fn options(&self) -> (PrepareOptions, &PathBuf) {
        let (source, common) = match self {
            Self::D3 { path, common } => (Source::D3(D3Options { path: path.clone() }), common),
            Self::Interactions(arguments) => (Source::Interactions(arguments.options()), &arguments.common),
            Self::Synthetic { common, items, users } => {
                let world = WorldOptions { items: *items, users: *users, ..WorldOptions::default() };
                (Source::Synthetic(world), common)
            }
        };
        (common.options(source), &common.out)
    }
}

impl Interactions {
    fn options(&self) -> InteractionOptions {
        InteractionOptions {
            interactions: self.interactions.clone(),
            items: self.items.clone(),
            format: self.file_format,
            user_column: self.user_column.clone(),
            item_column: self.item_column.clone(),
            time_column: self.time_column.clone(),
            rating_column: self.rating_column.clone(),
            min_rating: self.min_rating,
            item_id_column: self.item_id_column.clone(),
            title_column: self.title_column.clone(),
            split: SplitOptions {
                min_interactions: self.min_interactions,
                repeats: if self.first_only { Repeats::First } else { Repeats::Keep },
                rule: match self.split {
                    Split::Time => SplitRule::Time,
                    Split::LeaveOneOut => SplitRule::LeaveOneOut,
                },
                train_share: self.train_share,
                valid_share: self.valid_share,
            },
        }
    }
}

impl Common {
    fn options(&self, source: Source) -> PrepareOptions {
        PrepareOptions {
            history_length: self.history_length,
            bad_records: match self.bad_records {
                Bad::Error => BadRecords::Error,
                Bad::Drop => BadRecords::Drop,
            },
            tokenizer: match &self.tokenizer {
                Some(folder) => TokenizerOptions::Folder(folder.clone()),
                None => TokenizerOptions::Train(BpeSettings { vocab_size: self.vocab_size, ..BpeSettings::default() }),
            },
            template: match self.template {
                Template::Tokens => TemplateOptions::Tokens,
                Template::D3 => TemplateOptions::D3,
            },
            prompts: PromptOptions {
                source: match self.prompts {
                    Prompts::Valid => PromptSource::Valid,
                    Prompts::Train => PromptSource::Train,
                },
                watch_share: self.watch_share,
            },
            seed: Seed(self.seed),
            ..PrepareOptions::new(source)
        }
    }
}
