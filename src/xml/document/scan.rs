//! One pass over a document: what its elements, attributes and texts are for the paths.

use std::ops::Range;
use std::sync::Arc;

use quick_xml::Reader;
use quick_xml::events::Event;

use super::attributes::is_space;
use super::input::{ScanInput, Tag};
use super::scan_state::{FoundRow, ScanState};
use super::text;
use crate::xml::error::{XmlError, XmlLimits, XmlProblem};
use crate::xml::paths::{Program, Shape};

/// Reads documents for some shapes; what it allocates it keeps for the next one.
#[derive(Debug)]
pub struct Extractor {
    program: Program,
    limits: XmlLimits,
    state: ScanState,
}

const CDATA: (usize, usize) = ("<![CDATA[".len(), "]]>".len());

impl Extractor {
    pub fn new(shapes: &[Arc<Shape>], limits: XmlLimits) -> Self {
        Self { program: Program::new(shapes), limits, state: ScanState::default() }
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
    pub(in crate::xml) fn memory(&self) -> usize {
        self.state.memory()
    }

    /// How many rows of a shape, by its number, the document has.
    pub fn row_count(&self, shape: usize) -> usize {
        self.state.row_count(shape)
    }

    /// How many attributes the rows of a shape have in their own elements that no column reads.
    pub fn unread_attributes(&self, shape: usize) -> usize {
        self.state.unread_attributes(shape)
    }

    /// Bytes of all values of all rows.
    pub fn value_bytes(&self) -> usize {
        self.state.value_bytes()
    }

    pub(in crate::xml) fn rows(&self, shape: usize) -> impl Iterator<Item = &FoundRow> {
        self.state.rows().filter(move |row| row.shape == shape)
    }

    /// The texts of a row's columns; `None` where there is no such element or attribute.
    pub(in crate::xml) fn cells<'a>(
        &'a self,
        row: &'a FoundRow,
    ) -> impl Iterator<Item = Option<&'a str>> {
        self.state.cells(&self.program, row)
    }

    fn scan(&mut self, document: &str) -> Result<(), XmlError> {
        let (bytes, limit) = (document.len(), self.limits.bytes);
        if bytes > limit {
            return Err(XmlProblem::TooLarge { bytes, limit }.at(0));
        }
        let text = document.trim_start_matches('\u{feff}');
        if text.bytes().all(is_space) {
            return Ok(());
        }
        let mark = bytes - text.len();
        let mut pass = DocumentPass {
            input: ScanInput { document: text, program: &self.program, limits: &self.limits },
            state: &mut self.state,
            has_root: false,
        };
        // Whoever looks for the byte counts from the start of what was sent.
        pass.run().map_err(|error| XmlError { at: error.at + mark, ..error })
    }
}

/// One document while it is read.
struct DocumentPass<'a> {
    input: ScanInput<'a>,
    state: &'a mut ScanState,
    has_root: bool,
}

impl DocumentPass<'_> {
    fn run(&mut self) -> Result<(), XmlError> {
        let mut reader = Reader::from_str(self.input.document);
        self.state.begin(self.input.program);
        loop {
            let start = reader.buffer_position() as usize;
            let event = match reader.read_event() {
                Ok(event) => event,
                Err(error) => {
                    let at = reader.error_position() as usize;
                    return Err(XmlProblem::syntax(error.to_string()).at(at.max(start)));
                }
            };
            let end = reader.buffer_position() as usize;
            match event {
                Event::Start(tag) => self.open(start, end - 1, tag.name().as_ref().len())?,
                Event::Empty(tag) => {
                    self.open(start, end - 2, tag.name().as_ref().len())?;
                    self.state.close(self.input.program);
                }
                Event::End(_) => self.state.close(self.input.program),
                Event::Text(_) => self.text(start..end)?,
                Event::CData(_) => self
                    .inside(start)
                    .and_then(|()| self.push_text(start + CDATA.0..end - CDATA.1))?,
                Event::GeneralRef(_) => self.reference(start..end)?,
                Event::DocType(_) => return Err(XmlProblem::Dtd.at(start)),
                Event::Decl(_) if start > 0 => {
                    return Err(
                        XmlProblem::syntax("an XML declaration behind the beginning").at(start)
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
            return Err(XmlProblem::syntax("a second element beside the outermost one").at(start));
        }
        if depth == self.input.limits.depth {
            return Err(XmlProblem::TooDeep(depth).at(start));
        }
        if name == 0 {
            return Err(XmlProblem::syntax("an element without a name").at(start));
        }
        let name = start + 1..start + 1 + name;
        let tag = Tag { attributes: name.end..end, name };
        self.state.open(self.input, tag)
    }

    fn text(&mut self, at: Range<usize>) -> Result<(), XmlError> {
        if self.state.depth() > 0 {
            return self.push_text(at);
        }
        match self.input.document[at.clone()].bytes().position(|byte| !is_space(byte)) {
            None => Ok(()),
            Some(offset) => self.inside(at.start + offset),
        }
    }

    fn reference(&mut self, at: Range<usize>) -> Result<(), XmlError> {
        self.inside(at.start)?;
        let character = text::entity(&self.input.document[at.start + 1..at.end - 1]);
        let character = character.map_err(|problem| problem.at(at.start))?;
        self.state.push_character(character);
        self.state.check_value(self.input.limits, at.start)
    }

    fn push_text(&mut self, at: Range<usize>) -> Result<(), XmlError> {
        self.state.push_text(&self.input.document[at.clone()], at.start)?;
        self.state.check_value(self.input.limits, at.start)
    }

    fn inside(&self, at: usize) -> Result<(), XmlError> {
        if self.state.depth() == 0 {
            return Err(XmlProblem::syntax("text outside of the outermost element").at(at));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), XmlError> {
        let at = self.input.document.len();
        if self.state.depth() > 0 {
            let name = &self.input.document[self.state.innermost()];
            return Err(XmlProblem::syntax(format!(
                "the document ends inside of the element {name}"
            ))
            .at(at));
        }
        if !self.has_root {
            return Err(XmlProblem::syntax("the document has no element").at(at));
        }
        self.state.check_repetition(self.input.program, at)
    }
}
