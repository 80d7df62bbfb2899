//! One pass over a document: what its elements, attributes and texts are for the paths.

mod state;

use std::ops::Range;
use std::sync::Arc;

use quick_xml::Reader;
use quick_xml::events::Event;

use super::attributes::is_space;
use super::error::{Limits, Problem, XmlError};
use super::matching::Program;
use super::shape::Shape;
use super::text;
pub(super) use state::Row;
use state::State;

/// Reads documents for some shapes; what it allocates it keeps for the next one.
#[derive(Debug)]
pub struct Extractor {
    program: Program,
    limits: Limits,
    state: State,
}

/// A start tag, as ranges of the document.
#[derive(Debug, Clone)]
struct Tag {
    name: Range<usize>,
    attributes: Range<usize>,
}

const CDATA: (usize, usize) = ("<![CDATA[".len(), "]]>".len());

impl Extractor {
    pub fn new(shapes: &[Arc<Shape>], limits: Limits) -> Self {
        Self { program: Program::new(shapes), limits, state: State::default() }
    }

    /// Finds the rows of all shapes; those of the document before are forgotten. A document without a
    /// character, or of nothing but space, has none.
    ///
    /// # Errors
    /// If the document is malformed, has a DTD, or is beyond a limit. There are no rows then.
    pub fn read(&mut self, document: &str) -> Result<(), XmlError> {
        self.state.clear(&self.program);
        let read = self.scan(document);
        if read.is_err() {
            self.state.clear(&self.program);
        }
        read
    }

    /// Bytes that it holds on to.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.state.memory()
    }

    /// How many rows of a shape, by its number, the document has.
    pub fn row_count(&self, shape: usize) -> usize {
        self.state.row_count(shape)
    }

    /// Bytes of all values of all rows.
    pub fn value_bytes(&self) -> usize {
        self.state.value_bytes()
    }

    pub(super) fn rows(&self, shape: usize) -> impl Iterator<Item = &Row> {
        self.state.rows().filter(move |row| row.shape == shape)
    }

    /// The texts of a row's columns; `None` where there is no such element or attribute.
    pub(super) fn cells<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = Option<&'a str>> {
        self.state.cells(&self.program, row)
    }

    fn scan(&mut self, document: &str) -> Result<(), XmlError> {
        let (bytes, limit) = (document.len(), self.limits.bytes);
        if bytes > limit {
            return Err(Problem::TooLarge { bytes, limit }.at(0));
        }
        let text = document.trim_start_matches('\u{feff}');
        if text.bytes().all(is_space) {
            return Ok(());
        }
        let mark = bytes - text.len();
        let mut pass = Pass {
            document: text,
            program: &self.program,
            limits: &self.limits,
            state: &mut self.state,
            has_root: false,
        };
        // Whoever looks for the byte counts from the start of what was sent.
        pass.run().map_err(|error| XmlError { at: error.at + mark, ..error })
    }
}

/// One document while it is read.
struct Pass<'a> {
    document: &'a str,
    program: &'a Program,
    limits: &'a Limits,
    state: &'a mut State,
    has_root: bool,
}

impl Pass<'_> {
    fn run(&mut self) -> Result<(), XmlError> {
        let mut reader = Reader::from_str(self.document);
        self.state.begin(self.program);
        loop {
            let start = reader.buffer_position() as usize;
            let event = match reader.read_event() {
                Ok(event) => event,
                Err(error) => {
                    let at = reader.error_position() as usize;
                    return Err(Problem::syntax(error.to_string()).at(at.max(start)));
                }
            };
            let end = reader.buffer_position() as usize;
            match event {
                Event::Start(tag) => self.open(start, end - 1, tag.name().as_ref().len())?,
                Event::Empty(tag) => {
                    self.open(start, end - 2, tag.name().as_ref().len())?;
                    self.state.close(self.program);
                }
                Event::End(_) => self.state.close(self.program),
                Event::Text(_) => self.text(start..end)?,
                Event::CData(_) => self
                    .inside(start)
                    .and_then(|()| self.push_text(start + CDATA.0..end - CDATA.1))?,
                Event::GeneralRef(_) => self.reference(start..end)?,
                Event::DocType(_) => return Err(Problem::Dtd.at(start)),
                Event::Decl(_) if start > 0 => {
                    return Err(
                        Problem::syntax("an XML declaration behind the beginning").at(start)
                    );
                }
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
                Event::Eof => return self.end(),
            }
        }
    }

    fn open(&mut self, start: usize, end: usize, name: usize) -> Result<(), XmlError> {
        let depth = self.state.depth();
        if depth == 0 && std::mem::replace(&mut self.has_root, true) {
            return Err(Problem::syntax("a second element beside the outermost one").at(start));
        }
        if depth == self.limits.depth {
            return Err(Problem::TooDeep(depth).at(start));
        }
        if name == 0 {
            return Err(Problem::syntax("an element without a name").at(start));
        }
        let name = start + 1..start + 1 + name;
        let tag = Tag { attributes: name.end..end, name };
        self.state.open(self.program, (self.document, self.limits), tag)
    }

    fn text(&mut self, at: Range<usize>) -> Result<(), XmlError> {
        if self.state.depth() > 0 {
            return self.push_text(at);
        }
        match self.document[at.clone()].bytes().position(|byte| !is_space(byte)) {
            None => Ok(()),
            Some(offset) => self.inside(at.start + offset),
        }
    }

    fn reference(&mut self, at: Range<usize>) -> Result<(), XmlError> {
        self.inside(at.start)?;
        let character = text::entity(&self.document[at.start + 1..at.end - 1]);
        let character = character.map_err(|problem| problem.at(at.start))?;
        self.state.push_character(character);
        self.state.check_value(self.limits, at.start)
    }

    fn push_text(&mut self, at: Range<usize>) -> Result<(), XmlError> {
        self.state.push_text(&self.document[at.clone()], at.start)?;
        self.state.check_value(self.limits, at.start)
    }

    fn inside(&self, at: usize) -> Result<(), XmlError> {
        match self.state.depth() {
            0 => Err(Problem::syntax("text outside of the outermost element").at(at)),
            _ => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), XmlError> {
        let at = self.document.len();
        if self.state.depth() > 0 {
            let name = &self.document[self.state.innermost()];
            return Err(
                Problem::syntax(format!("the document ends inside of the element {name}")).at(at)
            );
        }
        if !self.has_root {
            return Err(Problem::syntax("the document has no element").at(at));
        }
        self.state.check_repetition(self.program, at)
    }
}
