//! Replays NDJSON files: one event a line.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Deserialize;

use super::{Acknowledge, Source, SourceError, SourceEvent};
use crate::model::{Message, Offset, Receipt};

/// Lines that are read at a time: file reads block, so a batch has to stay short.
const MAX_LINES_AT_ONCE: usize = 1_000;
/// The same in bytes, unless one line has more.
const MAX_BYTES_AT_ONCE: usize = 1 << 20;

/// The `[source]` section with `kind = "file"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// A file, or a folder whose `*.ndjson` files are read in the order of their names.
    pub path: PathBuf,
}

impl FileConfig {
    /// Everything that is wrong with it, each with its key; no I/O.
    pub fn problems(&self) -> Vec<String> {
        let is_empty = self.path.as_os_str().is_empty();
        is_empty.then(|| "source.path is empty".to_owned()).into_iter().collect()
    }
}

/// Reads the files once and ends.
///
/// Offsets are stable: the spool is a hash of the path as given, the id the number of the line, counted
/// from 1 over empty lines too. An empty line is a tombstone. The topic is the path.
pub struct FileSource {
    waiting: VecDeque<PathBuf>,
    current: Option<Reader>,
    is_announced: bool,
}

struct Reader {
    path: PathBuf,
    spool: u64,
    lines: BufReader<File>,
    line: u64,
}

impl FileSource {
    /// # Errors
    /// If the path does not exist or the folder cannot be listed.
    pub fn open(config: &FileConfig) -> Result<Self, SourceError> {
        let waiting = files(&config.path)
            .map_err(|source| SourceError::File { path: config.path.clone(), source })?;
        Ok(Self { waiting: waiting.into(), current: None, is_announced: false })
    }

    /// The next line of whichever file is its turn; `None` after the last.
    fn next_message(&mut self) -> Result<Option<Message>, SourceError> {
        loop {
            if let Some(reader) = &mut self.current {
                let message = reader.next_message();
                let failed = |source| SourceError::File { path: reader.path.clone(), source };
                if let Some(message) = message.map_err(failed)? {
                    return Ok(Some(message));
                }
            }
            let Some(path) = self.waiting.pop_front() else { return Ok(None) };
            let file = File::open(&path)
                .map_err(|source| SourceError::File { path: path.clone(), source })?;
            let spool = hash(path.to_string_lossy().as_bytes());
            self.current = Some(Reader { path, spool, lines: BufReader::new(file), line: 0 });
        }
    }
}

fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !std::fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "ndjson") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

impl Reader {
    fn next_message(&mut self) -> io::Result<Option<Message>> {
        let mut line = Vec::new();
        if self.lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            line.pop();
        }
        self.line += 1;
        Ok(Some(Message {
            offset: Offset::new(self.spool, self.line),
            receipt: Receipt { flow: 0, id: self.line },
            topic: self.path.to_string_lossy().into_owned(),
            payload: Bytes::from(line),
            redelivered: false,
            properties: Vec::new(),
        }))
    }
}

/// FNV-1a: the same on every machine and in every version, unlike the standard library's hasher.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Source for FileSource {
    type Acknowledger = FileAcknowledger;

    async fn recv_many(
        &mut self,
        buffer: &mut Vec<SourceEvent>,
        limit: usize,
    ) -> Result<usize, SourceError> {
        if !self.is_announced {
            self.is_announced = true;
            buffer.push(SourceEvent::Up);
            return Ok(1);
        }
        let (start, mut bytes) = (buffer.len(), 0);
        while buffer.len() - start < limit.min(MAX_LINES_AT_ONCE) && bytes < MAX_BYTES_AT_ONCE {
            let Some(message) = self.next_message()? else { break };
            bytes += message.payload.len();
            buffer.push(SourceEvent::Message(message));
        }
        Ok(buffer.len() - start)
    }

    fn acknowledger(&self) -> FileAcknowledger {
        FileAcknowledger
    }
}

/// A file forgets nothing, so there is nothing to tell it.
#[derive(Clone)]
pub struct FileAcknowledger;

impl Acknowledge for FileAcknowledger {
    async fn ack(&self, _: Vec<Receipt>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(path: &Path) -> Vec<Message> {
        let mut source = FileSource::open(&FileConfig { path: path.to_owned() }).unwrap();
        let mut messages = Vec::new();
        while let Some(event) = source.recv().await.unwrap() {
            if let SourceEvent::Message(message) = event {
                messages.push(message);
            }
        }
        messages
    }

    #[tokio::test]
    async fn a_folder_is_read_in_the_order_of_its_names() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("b.ndjson"), "{\"n\":3}").unwrap();
        std::fs::write(folder.path().join("a.ndjson"), "{\"n\":1}\r\n\n{\"n\":2}\n").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "no event").unwrap();
        let messages = read_all(folder.path()).await;
        let payloads: Vec<&[u8]> = messages.iter().map(|m| m.payload.as_ref()).collect();
        assert_eq!(payloads, [b"{\"n\":1}".as_ref(), b"", b"{\"n\":2}", b"{\"n\":3}"]);
        let ids: Vec<u64> = messages.iter().map(|m| m.offset.id).collect();
        assert_eq!(ids, [1, 2, 3, 1]);
        assert_ne!(messages[0].offset.spool, messages[3].offset.spool);
    }

    #[tokio::test]
    async fn offsets_are_the_same_on_every_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ndjson");
        std::fs::write(&path, "1\n2\n").unwrap();
        let offsets = |messages: Vec<Message>| -> Vec<Offset> {
            messages.iter().map(|message| message.offset).collect()
        };
        assert_eq!(offsets(read_all(&path).await), offsets(read_all(&path).await));
    }

    #[test]
    fn the_spool_of_a_path_never_changes() {
        assert_eq!(hash(b"events.ndjson"), 0xbef1_cd12_e4ee_079e);
    }

    #[test]
    fn a_missing_file_is_named() {
        let config = FileConfig { path: "/nowhere/x.ndjson".into() };
        let error = FileSource::open(&config).err().unwrap();
        assert_eq!(error.to_string(), "/nowhere/x.ndjson cannot be read");
    }
}
