//! The row images `before` and `after`: their fields by declared column, still as JSON text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The fields of one row image.
#[derive(Debug, Default)]
pub(in crate::decode) struct Image<'a> {
    /// By declared column; `None` if the image has no such field.
    pub(in crate::decode) columns: Vec<Option<Field<'a>>>,
    /// What no column declares.
    pub(in crate::decode) extra: Vec<Field<'a>>,
    /// Its event has no schema section: what an earlier one said counts, as far as the values are not clear.
    pub(in crate::decode) is_remembered: bool,
}

#[derive(Debug, Clone)]
pub(in crate::decode) struct Field<'a> {
    pub(in crate::decode) name: Cow<'a, str>,
    /// The value as it stands in the event.
    pub(in crate::decode) raw: &'a str,
}

impl<'a> Image<'a> {
    /// Replaces the fields by those of `text`; of two fields with one name the last counts.
    ///
    /// `column_of` names the column of a field, given its place in the object.
    ///
    /// # Errors
    /// If `text` is no JSON object.
    pub(in crate::decode) fn read(
        &mut self,
        text: &'a str,
        columns: usize,
        column_of: impl FnMut(usize, &str) -> Option<ColumnTarget>,
    ) -> Result<(), serde_json::Error> {
        self.columns.clear();
        self.columns.resize(columns, None);
        self.extra.clear();
        let mut deserializer = serde_json::Deserializer::from_str(text);
        ImageReader { image: self, column_of }.deserialize(&mut deserializer)
    }

    fn put(&mut self, field: Field<'a>, target: Option<ColumnTarget>) {
        let Some(ColumnTarget { column, is_exact }) = target else {
            self.extra.push(field);
            return;
        };
        match &mut self.columns[column] {
            // Two fields that differ in case: the one that is spelled as declared is the column.
            Some(taken) if taken.name != field.name => {
                let other = if is_exact { std::mem::replace(taken, field) } else { field };
                self.extra.push(other);
            }
            place => *place = Some(field),
        }
    }
}

/// The column that a field belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::decode) struct ColumnTarget {
    pub(in crate::decode) column: usize,
    /// Spelled as declared, not in upper case.
    pub(in crate::decode) is_exact: bool,
}

struct ImageReader<'r, 'a, F> {
    image: &'r mut Image<'a>,
    column_of: F,
}

/// Deserializes a borrowed name where it has no escapes.
#[derive(serde::Deserialize)]
struct FieldName<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de, F: FnMut(usize, &str) -> Option<ColumnTarget>> DeserializeSeed<'de>
    for ImageReader<'_, 'de, F>
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(usize, &str) -> Option<ColumnTarget>> Visitor<'de> for ImageReader<'_, 'de, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut place = 0;
        while let Some(FieldName(name)) = map.next_key()? {
            let target = (self.column_of)(place, &name);
            let raw = map.next_value::<&RawValue>()?.get();
            self.image.put(Field { name, raw }, target);
            place += 1;
        }
        Ok(())
    }
}
