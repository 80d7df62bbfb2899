//! Decoded events per second on one core: `cargo bench --bench decode`.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use tidemark::changelog::{Message, Offset, Receipt, SpoolOrder};
use tidemark::decode::{DecodeConfig, Decoder};
use tidemark::generator::{Config, Generator, Rate};
use tidemark::transform::{parse_tables, read_folder};

const EVENTS: u64 = 200_000;
const EPOCH: usize = 5_000;

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/tables");
    let tables =
        parse_tables(&read_folder(&folder).expect("the shipped tables")).expect("valid tables");
    let config = Config { rate: Rate::Max, events: Some(EVENTS), ..Config::default() };
    let messages: Vec<Message> = Generator::new(&config)
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
    let bytes: usize = messages.iter().map(|message| message.payload.len()).sum();
    let mut spools = SpoolOrder::default();
    spools.register(messages[0].offset);
    let mut decoder = Decoder::new(tables, &DecodeConfig::default());
    let started = Instant::now();
    let mut rows = 0;
    for epoch in messages.chunks(EPOCH) {
        let decoded = decoder.decode(epoch, &spools).expect("an epoch that fits");
        rows += decoded.changes.iter().map(|changes| changes.len()).sum::<usize>();
    }
    let seconds = started.elapsed().as_secs_f64();
    let (rate, mean) = (EVENTS as f64 / seconds, bytes as u64 / EVENTS);
    writeln!(
        std::io::stdout(),
        "decode: {rate:.0} events/s of {mean} bytes on average, {rows} rows"
    )
    .expect("standard output");
}
