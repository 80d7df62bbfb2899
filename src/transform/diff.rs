//! The difference between two results of one query, by key.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashMap;

/// What is wrong with a result as a keyed result.
#[derive(Debug)]
pub(super) enum DiffError {
    DuplicateKey { key: String },
    NullKey { column: String },
    Arrow { source: ArrowError },
}

impl From<ArrowError> for DiffError {
    fn from(source: ArrowError) -> Self {
        Self::Arrow { source }
    }
}

/// A row as it was, and the last replacement that it was in.
#[derive(Debug)]
struct LastRow {
    bytes: Box<[u8]>,
    generation: u64,
}

/// The rows of a result, by key.
#[derive(Debug)]
pub(super) struct LastRows {
    schema: SchemaRef,
    key_schema: SchemaRef,
    key: Vec<usize>,
    key_converter: RowConverter,
    row_converter: RowConverter,
    rows: HashMap<Box<[u8]>, LastRow>,
    generation: u64,
}

impl LastRows {
    pub(super) fn new(schema: &SchemaRef, key: &[usize]) -> Result<Self, ArrowError> {
        let sort_field = |at: usize| SortField::new(schema.field(at).data_type().clone());
        let key_fields: Vec<_> = key.iter().map(|at| schema.field(*at).clone()).collect();
        Ok(Self {
            schema: Arc::clone(schema),
            key_schema: Arc::new(Schema::new(key_fields)),
            key: key.to_vec(),
            key_converter: RowConverter::new(key.iter().map(|at| sort_field(*at)).collect())?,
            row_converter: RowConverter::new((0..schema.fields().len()).map(sort_field).collect())?,
            rows: HashMap::new(),
            generation: 0,
        })
    }

    /// Makes `batches` the rows: what is new or different, and the keys that are gone.
    ///
    /// After an error the rows are not to be used further.
    pub(super) fn replace(
        &mut self,
        batches: &[RecordBatch],
    ) -> Result<(RecordBatch, RecordBatch), DiffError> {
        self.generation += 1;
        let mut different = Vec::new();
        for batch in batches {
            let rows = self.different(batch)?;
            if !rows.is_empty() {
                different.push(take_record_batch(batch, &UInt32Array::from(rows))?);
            }
        }
        let upserts = concat_batches(&self.schema, &different)?;
        Ok((upserts, self.remove_missing()?))
    }

    fn different(&mut self, batch: &RecordBatch) -> Result<Vec<u32>, DiffError> {
        let key_columns: Vec<ArrayRef> =
            self.key.iter().map(|at| Arc::clone(batch.column(*at))).collect();
        for (column, field) in key_columns.iter().zip(self.key_schema.fields()) {
            if column.logical_null_count() > 0 {
                return Err(DiffError::NullKey { column: field.name().clone() });
            }
        }
        let keys = self.key_converter.convert_columns(&key_columns)?;
        let rows = self.row_converter.convert_columns(batch.columns())?;
        let mut different = Vec::new();
        for at in 0..batch.num_rows() {
            let (key, row) = (keys.row(at), rows.row(at));
            let generation = self.generation;
            match self.rows.get_mut(key.as_ref()) {
                Some(last) => {
                    if last.generation == generation {
                        return Err(DiffError::DuplicateKey { key: describe(&key_columns, at) });
                    }
                    last.generation = generation;
                    if last.bytes.as_ref() != row.as_ref() {
                        last.bytes = row.as_ref().into();
                        different.push(at as u32);
                    }
                }
                None => {
                    let last = LastRow { bytes: row.as_ref().into(), generation };
                    self.rows.insert(key.as_ref().into(), last);
                    different.push(at as u32);
                }
            }
        }
        Ok(different)
    }

    fn remove_missing(&mut self) -> Result<RecordBatch, DiffError> {
        let generation = self.generation;
        let gone: Vec<Box<[u8]>> = self
            .rows
            .extract_if(|_, last| last.generation != generation)
            .map(|(key, _)| key)
            .collect();
        let parser = self.key_converter.parser();
        let keys = gone.iter().map(|key| parser.parse(key));
        let columns = self.key_converter.convert_rows(keys)?;
        Ok(RecordBatch::try_new(Arc::clone(&self.key_schema), columns)?)
    }
}

fn describe(key: &[ArrayRef], row: usize) -> String {
    let show = |column: &ArrayRef| {
        arrow::util::display::array_value_to_string(column, row).unwrap_or_else(|_| "?".to_owned())
    };
    key.iter().map(show).collect::<Vec<_>>().join(", ")
}
