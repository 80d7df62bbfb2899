//! The row images `before` and `after`: their fields by declared column, still as JSON text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::row_form::RowReading;

/// The fields of one row image.
#[derive(Debug, Default)]
pub(in crate::decode) struct Image<'a> {
    /// By declared column; `None` if the image has no such field.
    pub(in crate::decode) columns: Vec<Option<Field<'a>>>,
    /// What no column declares.
    pub(in crate::decode) extra: Vec<Field<'a>>,
    pub(in crate::decode) reading: RowReading,
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
        let missing = ImageReader { image: self, column_of }.deserialize(&mut deserializer)?;
        for name in missing {
            let is_it = |field: &Field<'_>| *field.name == *name;
            self.extra.retain(|field| !is_it(field));
            if let Some(place) =
                self.columns.iter_mut().find(|place| place.as_ref().is_some_and(is_it))
            {
                *place = None;
            }
        }
        Ok(())
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
struct FieldKey<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de, F: FnMut(usize, &str) -> Option<ColumnTarget>> DeserializeSeed<'de>
    for ImageReader<'_, 'de, F>
{
    /// The fields that the row says are missing.
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(usize, &str) -> Option<ColumnTarget>> Visitor<'de> for ImageReader<'_, 'de, F> {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let form = self.image.reading.form;
        let (mut place, mut missing) = (0, Vec::new());
        while let Some(FieldKey(name)) = map.next_key()? {
            let raw = map.next_value::<&RawValue>()?.get();
            if form.is_metadata(&name) {
                continue;
            }
            if let Some(column) = form.column_of_mark(&name) {
                missing.extend((raw == "true").then(|| column.to_owned()));
                continue;
            }
            let target = (self.column_of)(place, &name);
            self.image.put(Field { name, raw }, target);
            place += 1;
        }
        Ok(missing)
    }
}
