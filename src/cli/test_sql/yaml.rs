//! YAML as a tree that knows its lines, with each scalar as it was written: `100.00` stays `100.00`.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

/// Deeper nesting is no test file, and recursion must end.
const DEEPEST: usize = 32;

/// Line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct At {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// What is wrong in a test file, and where.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) struct FileError {
    pub(super) path: PathBuf,
    pub(super) at: At,
    pub(super) message: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let At { line, column } = self.at;
        write!(f, "{}:{line}:{column}: {}", self.path.display(), self.message)
    }
}

/// A problem at a place of the file at hand.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) at: At,
    pub(super) message: String,
}

impl Problem {
    pub(super) fn in_file(self, path: &Path) -> FileError {
        FileError { path: path.to_owned(), at: self.at, message: self.message }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: At,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) at: At,
    pub(super) name: String,
}

impl Node {
    pub(super) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem { at: self.at, message: message.into() }
    }

    pub(super) fn text(&self, what: &str) -> Result<&str, Problem> {
        match &self.value {
            Value::Text(text) => Ok(text),
            Value::Null | Value::List(_) | Value::Map(_) => {
                Err(self.problem(format!("{what} must be a text")))
            }
        }
    }

    pub(super) fn list(&self, what: &str) -> Result<&[Node], Problem> {
        match &self.value {
            Value::List(nodes) => Ok(nodes),
            Value::Null | Value::Text(_) | Value::Map(_) => {
                Err(self.problem(format!("{what} must be a list: lines that start with `- `")))
            }
        }
    }

    pub(super) fn map(&self, what: &str) -> Result<&[(Key, Node)], Problem> {
        match &self.value {
            Value::Map(pairs) => Ok(pairs),
            Value::Null | Value::Text(_) | Value::List(_) => {
                Err(self.problem(format!("{what} must be a mapping: `name: value`")))
            }
        }
    }
}

/// Reads a file of one document.
///
/// # Errors
/// If it is no YAML, has a key twice, or uses anchors or tags, which this tree has no place for.
pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    let mut reader = Reader { events: Parser::new_from_str(text) };
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            Event::StreamEnd => return Err(problem(span, "the file is empty")),
            first => {
                let node = reader.node(first, span, 0)?;
                return reader.end().map(|()| node);
            }
        }
    }
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.events.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(scan_problem(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn end(&mut self) -> Result<(), Problem> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentStart(_), span) => {
                    return Err(problem(span, "a test file is one document: remove this `---`"));
                }
                _ => {}
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Problem> {
        if depth > DEEPEST {
            return Err(problem(span, "is nested too deeply for a test file"));
        }
        let value = match event {
            Event::Scalar(text, style, 0, None) => scalar(text, style),
            Event::SequenceStart(0, None) => self.list(depth)?,
            Event::MappingStart(0, None) => self.map(depth)?,
            _ => {
                return Err(problem(
                    span,
                    "anchors (&), aliases (*) and tags (!) are not for test files: write the value out",
                ));
            }
        };
        Ok(Node { at: at(span), value })
    }

    fn list(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut nodes = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(nodes)),
                (event, span) => nodes.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut pairs: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let name = match event {
                Event::MappingEnd => return Ok(Value::Map(pairs)),
                Event::Scalar(name, _, 0, None) => name.into_owned(),
                _ => return Err(problem(span, "a name must be plain text")),
            };
            if pairs.iter().any(|(key, _)| key.name == name) {
                return Err(problem(span, format!("{name} is there twice")));
            }
            let (event, value_span) = self.next()?;
            let value = self.node(event, value_span, depth + 1)?;
            pairs.push((Key { at: at(span), name }, value));
        }
    }
}

/// A key that has no meaning where it stands; `known` are those that have.
pub(super) fn unknown(key: &Key, known: &str) -> Problem {
    Problem { at: key.at, message: format!("{} is not known here; there are {known}", key.name) }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value {
    let is_plain = matches!(style, ScalarStyle::Plain);
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" if is_plain => Value::Null,
        _ => Value::Text(text.into_owned()),
    }
}

fn at(span: Span) -> At {
    At { line: span.start.line(), column: span.start.col() + 1 }
}

fn problem(span: Span, message: impl Into<String>) -> Problem {
    Problem { at: at(span), message: message.into() }
}

fn scan_problem(error: &ScanError) -> Problem {
    let marker = error.marker();
    let at = At { line: marker.line(), column: marker.col() + 1 };
    Problem { at, message: format!("is no YAML: {}", error.info()) }
}
