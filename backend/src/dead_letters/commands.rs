//! The commands of people: list, show, replay and discard dead letters.

use anyhow::{Context as _, Result, bail};
use book_events::BOOK_EVENTS;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use rdkafka::{Message, message::Headers as _, producer::FutureRecord};
use serde_json::{Value, json};
use telemetry_common::{db::Database, kafka::Producer};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    letter::{Letter, original_headers},
    reader::Reader,
    repository::{self, Outcome},
};
use crate::config::Config;

/// The client id of the Kafka clients of these commands.
pub(super) const CLIENT: &str = "backend-dead-letters";

/// What to do with dead letters.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the dead letters that were neither replayed nor discarded.
    List {
        /// Which dead letters.
        #[command(flatten)]
        filter: Filter,

        /// List those that were replayed or discarded, too.
        #[arg(long)]
        handled: bool,

        /// Print one JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Show one dead letter with its headers and its value, as JSON.
    Show {
        /// Id of the dead letter.
        id: String,
    },
    /// Send dead letters to their topic again, each one once.
    Replay(Selection),
    /// Discard dead letters: they are not listed and not replayed any more.
    Discard(Selection),
}

/// The dead letters of a command that changes something.
#[derive(Args, Clone, Debug)]
#[group(id = "selection", required = true, multiple = true, args = ["ids", "since", "until", "reason", "key", "all"])]
pub struct Selection {
    #[command(flatten)]
    filter: Filter,

    /// All dead letters.
    #[arg(long)]
    all: bool,

    /// Print what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,

    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
}

/// Selects dead letters. All given conditions must hold.
#[derive(Args, Clone, Debug, Default)]
pub struct Filter {
    /// Ids of dead letters.
    #[arg(value_name = "ID")]
    ids: Vec<String>,

    /// Only those since this time, such as 2026-11-24T09:00:00Z, or since so long ago, such as 2h.
    #[arg(long, value_parser = moment, value_name = "TIME")]
    since: Option<Timestamp>,

    /// Only those until this time, or until so long ago.
    #[arg(long, value_parser = moment, value_name = "TIME")]
    until: Option<Timestamp>,

    /// Only those with this reason: the `error.type` of the failure.
    #[arg(long)]
    reason: Option<String>,

    /// Only those with this key: the id of the book.
    #[arg(long)]
    key: Option<String>,
}

/// Parses a time, or a duration before now.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Timestamp::now()
            .checked_sub(ago)
            .map_err(|error| error.to_string());
    }
    let time: Result<Timestamp, _> = text.parse();
    time.map_err(|_| {
        "expected a time such as 2026-11-24T09:00:00Z, or a duration such as 2h".to_owned()
    })
}

impl Filter {
    fn selects(&self, letter: &Letter) -> bool {
        let time = letter.time();
        (self.ids.is_empty() || self.ids.contains(&letter.id()))
            && self
                .since
                .is_none_or(|since| time.is_some_and(|time| time >= since))
            && self
                .until
                .is_none_or(|until| time.is_some_and(|time| time <= until))
            && self
                .reason
                .as_ref()
                .is_none_or(|reason| *reason == letter.reason())
            && self.key.as_ref().is_none_or(|key| *key == letter.key())
    }
}

/// Runs a command until it is done, or until `stop` is cancelled.
pub async fn run(config: Config, command: Command, stop: CancellationToken) -> Result<()> {
    let db = config.service.postgres.connect("backend")?;
    let letters = Reader::open(&config.service.kafka)?;
    let work = async {
        match command {
            Command::List {
                filter,
                handled,
                json,
            } => list(&db, letters, &filter, handled, json).await,
            Command::Show { id } => show(&db, letters, &id).await,
            Command::Replay(selection) => {
                let mut producer = config.service.kafka.client(CLIENT);
                producer.set("enable.idempotence", "true");
                producer.set("message.timeout.ms", "10000");
                let producer =
                    Producer::create(&producer).context("could not create the Kafka producer")?;
                let replay = async |letter: &Letter| send(&producer, letter).await;
                let count = handle(&db, letters, &selection, Outcome::Replayed, replay).await?;
                info!(name: "bookapp.dead_letters.replayed", "{count} dead letters replayed");
                Ok(())
            }
            Command::Discard(selection) => {
                let discard = async |_: &Letter| Ok(());
                let count = handle(&db, letters, &selection, Outcome::Discarded, discard).await?;
                info!(name: "bookapp.dead_letters.discarded", "{count} dead letters discarded");
                Ok(())
            }
        }
    };
    stop.run_until_cancelled(work)
        .await
        .context("the command was interrupted")?
}

async fn list(
    db: &Database,
    mut letters: Reader,
    filter: &Filter,
    handled: bool,
    json: bool,
) -> Result<()> {
    loop {
        let chunk = next(db, &mut letters, filter).await?;
        let Some(chunk) = chunk else { return Ok(()) };
        for (letter, outcome) in chunk {
            if handled || outcome.is_none() {
                print(&letter, outcome, json)?;
            }
        }
    }
}

/// Handles each selected dead letter that was not handled before. Returns their number.
async fn handle(
    db: &Database,
    mut letters: Reader,
    selection: &Selection,
    outcome: Outcome,
    action: impl AsyncFn(&Letter) -> Result<()>,
) -> Result<u64> {
    let mut count = 0;
    while let Some(chunk) = next(db, &mut letters, &selection.filter).await? {
        for (letter, handled) in chunk {
            if handled.is_some() {
                continue;
            }
            if selection.dry_run {
                print(&letter, None, selection.json)?;
                continue;
            }
            action(&letter).await?;
            repository::handle(db, &letter.id(), outcome).await?;
            print(&letter, Some(outcome), selection.json)?;
            count += 1;
        }
    }
    Ok(count)
}

/// Returns the next selected dead letters, each with what was done with it, or `None` at the end.
async fn next(
    db: &Database,
    letters: &mut Reader,
    filter: &Filter,
) -> Result<Option<Vec<(Letter, Option<Outcome>)>>> {
    let mut chunk = letters.next().await?;
    if chunk.is_empty() {
        return Ok(None);
    }
    chunk.retain(|letter| filter.selects(letter));
    let ids: Vec<_> = chunk.iter().map(Letter::id).collect();
    let outcomes = repository::outcomes(db, &ids).await?;
    let outcome = |letter: &Letter| outcomes.get(&letter.id()).copied();
    let chunk = chunk.into_iter().map(|letter| {
        let outcome = outcome(&letter);
        (letter, outcome)
    });
    Ok(Some(chunk.collect()))
}

/// Sends a dead letter to the topic of its message. The send span links to the trace in which the message
/// was created, and to the attempt that failed.
async fn send(producer: &Producer, letter: &Letter) -> Result<()> {
    let Letter(message) = letter;
    let record = FutureRecord {
        topic: BOOK_EVENTS,
        partition: None,
        payload: message.payload(),
        key: message.key(),
        timestamp: None,
        headers: Some(original_headers(message)),
    };
    let links = [&letter.created(), &letter.failed()];
    let sent = producer.send_created(record, None, &links).await;
    sent.map(drop)
        .with_context(|| format!("could not replay the dead letter {}", letter.id()))
}

#[expect(clippy::print_stdout, reason = "this is the output of the command")]
fn print(letter: &Letter, outcome: Option<Outcome>, json: bool) -> Result<()> {
    let summary = letter.summary();
    if json {
        let mut summary = serde_json::to_value(&summary)?;
        summary["outcome"] = json!(outcome);
        println!("{summary}");
        return Ok(());
    }
    let time = summary
        .time
        .map_or_else(String::new, |time| time.to_string());
    let outcome = match outcome {
        None => "",
        Some(Outcome::Replayed) => ", replayed",
        Some(Outcome::Discarded) => ", discarded",
    };
    println!(
        "{time} {} {} after {} attempts, key {}, from {}{outcome}",
        summary.id, summary.reason, summary.attempts, summary.key, summary.origin
    );
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is the output of the command")]
async fn show(db: &Database, mut letters: Reader, id: &str) -> Result<()> {
    let filter = Filter {
        ids: vec![id.to_owned()],
        ..Filter::default()
    };
    let (letter, outcome) = loop {
        match next(db, &mut letters, &filter).await? {
            None => bail!("there is no dead letter {id}"),
            Some(chunk) => {
                if let Some(found) = chunk.into_iter().next() {
                    break found;
                }
            }
        }
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let Letter(message) = &letter;
    let headers: serde_json::Map<String, Value> = message
        .headers()
        .into_iter()
        .flat_map(|headers| headers.iter())
        .map(|header| (header.key.to_owned(), json!(header.value.map(text))))
        .collect();
    let mut shown = serde_json::to_value(letter.summary())?;
    shown["outcome"] = json!(outcome);
    shown["headers"] = Value::Object(headers);
    match message.payload().map(str::from_utf8) {
        Some(Err(_)) => shown["value_hex"] = json!(message.payload().map(hex::encode)),
        Some(Ok(value)) => shown["value"] = json!(value),
        None => shown["value"] = Value::Null,
    }
    println!("{shown:#}");
    Ok(())
}
