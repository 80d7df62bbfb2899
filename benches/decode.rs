//! Decoded events per second on one core, with and without columns that nobody declared:
//! `cargo bench --bench decode`.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use tidemark::decode::{Decoder, DecoderSetup};
use tidemark::model::{Generations, Message, Offset, Receipt};
use tidemark::transform::{parse_tables, read_folder};
use tidemark_dev::generator::{Config, Generator, Rate};

const EVENTS: u64 = 200_000;
const EPOCH: usize = 5_000;
/// The two kinds of events take turns, so that a busy machine is busy for both.
const ROUNDS: usize = 7;

fn main() {
    let config = Config { rate: Rate::Max, events: Some(EVENTS), ..Config::default() };
    let steady: Vec<Message> = Generator::new(&config)
        .enumerate()
        .map(|(at, event)| Message {
            offset: Offset::new(1, at as u64 + 1),
            receipt: Receipt { flow: 1, id: at as u64 + 1 },
            topic: event.topic,
            payload: event.payload,
            redelivered: false,
            properties: Vec::new(),
        })
        .collect();
    let drifting: Vec<Message> = steady.iter().enumerate().map(drifted).collect();
    let (mut best, mut best_drifting) = (Figures::default(), Figures::default());
    for _ in 0..ROUNDS {
        best = best.or(measure(&steady));
        best_drifting = best_drifting.or(measure(&drifting));
    }
    let cost = 100.0 * (1.0 - best_drifting.rate / best.rate);
    writeln!(
        std::io::stdout(),
        "decode: {:.0} events/s of {} bytes on average, {} rows\n\
         drift:  {:.0} events/s, {cost:.1} % less, of {} bytes; every other event has a new column, \
         {} were noticed",
        best.rate,
        bytes(&steady) / steady.len(),
        best.rows,
        best_drifting.rate,
        bytes(&drifting) / drifting.len(),
        best_drifting.schema_changes,
    )
    .expect("standard output");
}

/// Every other event has one column more, at the end, where ALTER TABLE adds it.
fn drifted((at, message): (usize, &Message)) -> Message {
    let text = std::str::from_utf8(&message.payload).expect("JSON");
    let end = text.find("\"after\":{").and_then(|start| Some(start + text[start..].find('}')?));
    let payload = match end {
        Some(end) if at % 2 == 0 => {
            let drifted =
                format!("{},\"LOYALTY_POINTS\":{}{}", &text[..end], at % 1000, &text[end..]);
            drifted.into_bytes().into()
        }
        _ => message.payload.clone(),
    };
    Message { payload, ..message.clone() }
}

fn bytes(messages: &[Message]) -> usize {
    messages.iter().map(|message| message.payload.len()).sum()
}

/// Of the fastest run.
#[derive(Clone, Copy, Default)]
struct Figures {
    rate: f64,
    rows: usize,
    schema_changes: usize,
}

impl Figures {
    fn or(self, other: Self) -> Self {
        if other.rate > self.rate { other } else { self }
    }
}

fn measure(messages: &[Message]) -> Figures {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/tables");
    let mut files = read_folder(&folder).expect("the shipped tables");
    for file in files.iter_mut().filter(|file| file.name == "orders") {
        // The five tables as the source has them: here the XML of orders is a text like any other.
        file.text = file.text.replace("  created_at", "  shipping_info VARCHAR,\n  created_at");
    }
    let tables = parse_tables(&files).expect("valid tables");
    let mut spools = Generations::default();
    spools.register(messages[0].offset);
    let mut decoder = Decoder::new(DecoderSetup { tables, ..DecoderSetup::default() });
    let started = Instant::now();
    let (mut rows, mut schema_changes) = (0, 0);
    for epoch in messages.chunks(EPOCH) {
        let decoded = decoder.decode(epoch, &spools).expect("an epoch that fits");
        rows += decoded.changes.iter().map(|changes| changes.len()).sum::<usize>();
        schema_changes += decoded.schema_changes.len();
    }
    let rate = messages.len() as f64 / started.elapsed().as_secs_f64();
    Figures { rate, rows, schema_changes }
}
