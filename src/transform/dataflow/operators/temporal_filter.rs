//! Comparisons with the watermark, as in `WHERE order_date < watermark()`: a temporal filter.
//!
//! A row's flag changes once, when the watermark passes the row's time. With W0 and W1 the watermarks
//! before and after an epoch, P the rows with a time between them and f(W) the flags at W, the rows change
//! by `dI x f(W1) + P x f(W1) - P x f(W0)`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use datafusion::error::Result;
use hashbrown::HashMap;

use crate::model::{Found, Lookup, StateSpace, StateWrites};
use crate::transform::dataflow::delta::Delta;
use crate::transform::dataflow::expression::{Expression, evaluate};
use crate::transform::dataflow::operator::{
    BoxedOperator, EvalContext, IndexRequests, Operator, Visit, WatermarkStep,
};
use crate::transform::dataflow::operator_state::{ChangedKeys, EpochStep, OperatorState, UndoLog};
use crate::transform::dataflow::operators::constant::Constant;
use crate::transform::dataflow::rows::{self, EncodedRow};

/// A comparison of a time with `watermark()`, plus or minus a constant interval.
///
/// The expressions are over the input's columns and the watermark, which comes last.
#[derive(Debug)]
pub(crate) struct WatermarkPredicate {
    pub(crate) comparison: Expression,
    /// The side without the watermark: where the comparison changes its mind.
    pub(crate) time: Expression,
    /// The side with it.
    pub(crate) limit: Expression,
}

/// The rows of the input and, after their columns, one flag per comparison with the watermark.
///
/// A flag changes once, when the watermark passes the row's time. The rows whose time is still ahead
/// are kept by it, so that a watermark that moves touches the rows that it passes and no others.
#[derive(Debug)]
pub(crate) struct TemporalFilter {
    input: BoxedOperator,
    predicates: Vec<WatermarkPredicate>,
    ahead: Vec<BTreeMap<i64, HashMap<EncodedRow, i64>>>,
    /// What the rows ahead take, kept up to date because counting it would visit each.
    ahead_bytes: usize,
    undo: UndoLog<AheadChange>,
    changed: ChangedKeys<EncodedRow>,
    converter: RowConverter,
    /// Of the input and the watermark.
    timed: SchemaRef,
    schema: SchemaRef,
}

impl TemporalFilter {
    pub(crate) fn new(
        input: BoxedOperator,
        predicates: Vec<(WatermarkPredicate, String)>,
    ) -> Result<Self> {
        let fields = input.schema().fields();
        let sort_fields = fields.iter().map(|f| SortField::new(f.data_type().clone())).collect();
        let mut timed: Vec<_> = fields.iter().map(Arc::clone).collect();
        timed.push(Arc::new(watermark_field()));
        let mut flagged: Vec<_> = fields.iter().map(Arc::clone).collect();
        let flag = |name: &str| Arc::new(Field::new(name, DataType::Boolean, true));
        flagged.extend(predicates.iter().map(|(_, name)| flag(name)));
        Ok(Self {
            converter: RowConverter::new(sort_fields)?,
            ahead: predicates.iter().map(|_| BTreeMap::new()).collect(),
            ahead_bytes: 0,
            undo: UndoLog::default(),
            changed: ChangedKeys::default(),
            predicates: predicates.into_iter().map(|(predicate, _)| predicate).collect(),
            timed: Arc::new(Schema::new(timed)),
            schema: Arc::new(Schema::new(flagged)),
            input,
        })
    }

    fn clear(&mut self) {
        self.ahead.iter_mut().for_each(BTreeMap::clear);
        self.ahead_bytes = 0;
    }

    fn timed(&self, input: &RecordBatch, watermark: Option<i64>) -> Result<RecordBatch> {
        let time: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(vec![watermark; input.num_rows()]));
        let columns = input.columns().iter().cloned().chain([time]).collect();
        Ok(rows::batch(&self.timed, columns, input.num_rows())?)
    }

    fn flag(&self, input: &RecordBatch, watermark: Option<i64>) -> Result<RecordBatch> {
        let timed = self.timed(input, watermark)?;
        let flags = self
            .predicates
            .iter()
            .map(|p| evaluate(&p.comparison, &timed))
            .collect::<Result<Vec<_>>>()?;
        let columns = input.columns().iter().cloned().chain(flags).collect();
        Ok(rows::batch(&self.schema, columns, input.num_rows())?)
    }

    /// What the watermark side of a comparison is, in the unit of the comparison.
    fn limit(&self, predicate: usize, watermark: Option<i64>) -> Result<Option<i64>> {
        let row = rows::null_rows(self.input.schema(), 1)?;
        let limit = evaluate(&self.predicates[predicate].limit, &self.timed(&row, watermark)?)?;
        Ok(times(&limit)?[0])
    }

    /// Adds rows to those whose time is ahead, or takes them out.
    fn remember(&mut self, delta: &Delta, watermark: Option<i64>) -> Result<()> {
        let encoded = self.converter.convert_columns(delta.rows.columns())?;
        let timed = self.timed(&delta.rows, watermark)?;
        for predicate in 0..self.predicates.len() {
            let limit = self.limit(predicate, watermark)?;
            let times = times(&evaluate(&self.predicates[predicate].time, &timed)?)?;
            for (row, time) in times.into_iter().enumerate() {
                let is_ahead = |time: &i64| limit.is_none_or(|limit| *time >= limit);
                if let Some(time) = time.filter(is_ahead) {
                    let (weight, row) = (delta.weights[row], encoded.row(row).as_ref().into());
                    self.add(AheadChange { predicate, time, row, weight });
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, change: AheadChange) {
        self.undo.note(|| change.clone());
        self.changed.note(&change.key());
        let AheadChange { predicate, time, row, weight: added } = change;
        let rows = self.ahead[predicate].entry(time).or_default();
        let weight = rows.entry(EncodedRow::clone(&row)).or_insert_with(|| {
            self.ahead_bytes += held(&row);
            0
        });
        *weight += added;
        if *weight == 0 {
            rows.remove(&row);
            self.ahead_bytes -= held(&row);
        }
        if rows.is_empty() {
            self.ahead[predicate].remove(&time);
        }
    }

    /// The rows whose flags may differ between two watermarks; those that are passed are forgotten.
    fn passed(&mut self, before: Option<i64>, now: Option<i64>) -> Result<Vec<(EncodedRow, i64)>> {
        let mut passed: HashMap<EncodedRow, i64> = HashMap::new();
        for at in 0..self.predicates.len() {
            let (old, new) = (self.limit(at, before)?, self.limit(at, now)?);
            // Without a limit before, every flag was NULL.
            let reached: Vec<i64> = match (old, new) {
                (Some(_), Some(new)) => self.ahead[at].range(..=new).map(|(t, _)| *t).collect(),
                (Some(_), None) | (None, _) => self.ahead[at].keys().copied().collect(),
            };
            for time in reached {
                let rows = self.ahead[at].get(&time).cloned().unwrap_or_default();
                if new.is_some_and(|new| time < new) {
                    for (row, weight) in &rows {
                        let (row, weight) = (EncodedRow::clone(row), -weight);
                        self.add(AheadChange { predicate: at, time, row, weight });
                    }
                }
                passed.extend(rows);
            }
        }
        Ok(passed.into_iter().collect())
    }

    fn decode(&self, rows: &[(EncodedRow, i64)]) -> Result<RecordBatch, ArrowError> {
        let parser = self.converter.parser();
        let columns = self.converter.convert_rows(rows.iter().map(|(row, _)| parser.parse(row)))?;
        rows::batch(self.input.schema(), columns, rows.len())
    }

    /// What the watermark alone changes.
    fn move_on(&mut self, before: Option<i64>, now: Option<i64>) -> Result<Vec<Delta>> {
        let passed = self.passed(before, now)?;
        if passed.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.decode(&passed)?;
        let weights: Vec<i64> = passed.iter().map(|(_, weight)| *weight).collect();
        let gone = weights.iter().map(|weight| -weight).collect();
        let (old, new) = (self.flag(&rows, before)?, self.flag(&rows, now)?);
        Ok(vec![Delta::new(old, gone), Delta::new(new, weights)])
    }
}

/// How a row that is ahead comes or goes.
#[derive(Debug, Clone)]
struct AheadChange {
    /// Which comparison.
    predicate: usize,
    time: i64,
    row: EncodedRow,
    weight: i64,
}

impl AheadChange {
    /// On disk: the comparison, the time in its order, and the row.
    fn key(&self) -> EncodedRow {
        let comparison = (self.predicate as u16).to_be_bytes();
        let time = (self.time ^ i64::MIN).to_be_bytes();
        [&comparison[..], &time, &self.row].concat().into()
    }

    fn read(key: &[u8], weight: i64) -> Option<Self> {
        let (comparison, rest) = key.split_first_chunk()?;
        let (time, row) = rest.split_first_chunk()?;
        let predicate = usize::from(u16::from_be_bytes(*comparison));
        let time = i64::from_be_bytes(*time) ^ i64::MIN;
        Some(Self { predicate, time, row: row.into(), weight })
    }
}

impl OperatorState for TemporalFilter {
    fn step(&mut self, step: EpochStep) -> Result<()> {
        for change in self.undo.step(step) {
            self.add(AheadChange { weight: -change.weight, ..change });
        }
        Ok(())
    }

    fn open(&mut self, space: Arc<dyn StateSpace>, kept: Option<&[u64]>) -> Result<()> {
        self.clear();
        self.changed.open(space);
        if kept.is_none() {
            return Ok(());
        }
        let kept = std::mem::take(&mut self.changed);
        kept.each(&mut |key, weight| {
            let damaged = || ArrowError::ComputeError("a row ahead can't be read".to_owned());
            self.add(AheadChange::read(key, weight).ok_or_else(damaged)?);
            Ok(())
        })?;
        self.changed = kept;
        Ok(())
    }

    fn flush(&mut self, writes: &mut dyn StateWrites) {
        let Self { changed, ahead, .. } = self;
        changed.flush(writes, |key| {
            let Some(AheadChange { predicate, time, row, .. }) = AheadChange::read(key, 0) else {
                return 0;
            };
            ahead[predicate].get(&time).and_then(|rows| rows.get(&row)).copied().unwrap_or(0)
        });
    }

    fn note_flushed(&mut self, is_done: bool) {
        self.changed.note_flushed(is_done);
    }

    fn kept(&self) -> Option<(&Arc<dyn StateSpace>, Vec<u64>)> {
        Some((self.changed.space()?, Vec::new()))
    }

    fn changed_bytes(&self) -> usize {
        self.changed.bytes()
    }
}

/// Bytes, roughly, that a row ahead takes.
fn held(row: &EncodedRow) -> usize {
    const ENTRY: usize = 64;
    row.len() + ENTRY
}

/// The column that stands for `watermark()` in the expressions of a [`WatermarkPredicate`].
pub(crate) fn watermark_field() -> Field {
    Field::new("__watermark", DataType::Timestamp(TimeUnit::Microsecond, None), true)
}

/// Times as numbers that are in their order, whatever their unit.
fn times(times: &ArrayRef) -> Result<Vec<Option<i64>>, ArrowError> {
    let numbers = match times.data_type() {
        DataType::Date32 => cast(&cast(times, &DataType::Int32)?, &DataType::Int64)?,
        _ => cast(times, &DataType::Int64)?,
    };
    let numbers = numbers.as_primitive::<Int64Type>();
    Ok((0..numbers.len()).map(|at| numbers.is_valid(at).then(|| numbers.value(at))).collect())
}

impl Operator for TemporalFilter {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn load(&mut self, context: &EvalContext<'_>) -> Result<()> {
        self.input.load(context)?;
        self.clear();
        // Taken out for the scan, because what is remembered changes meanwhile.
        let none = Constant::boxed(RecordBatch::new_empty(SchemaRef::clone(self.input.schema())));
        let input = std::mem::replace(&mut self.input, none);
        let now = context.watermark.now;
        let loaded = input.scan(context, &mut |part| self.remember(&Delta::of(part, 1), now));
        self.input = input;
        loaded
    }

    fn advance(&mut self, context: &EvalContext<'_>) -> Result<Delta> {
        let delta = self.input.advance(context)?;
        let WatermarkStep { before, now } = context.watermark;
        let mut parts = if before == now { Vec::new() } else { self.move_on(before, now)? };
        // The rows that were there are at the new watermark now, and so are the ones that go.
        if !delta.is_empty() {
            self.remember(&delta, now)?;
            parts.push(Delta::new(self.flag(&delta.rows, now)?, delta.weights));
        }
        Ok(Delta::sum(&self.schema, parts)?)
    }

    fn prepare(&mut self, columns: &[usize], requests: &mut dyn IndexRequests) -> bool {
        let width = self.input.schema().fields().len();
        columns.iter().all(|column| *column < width) && self.input.prepare(columns, requests)
    }

    fn find(&self, lookup: Lookup<'_>, context: &EvalContext<'_>) -> Result<Found> {
        let found = self.input.find(lookup, context)?;
        Ok(Found { rows: self.flag(&found.rows, context.watermark.now)?, key_of: found.key_of })
    }

    fn count(&self, lookup: Lookup<'_>, context: &EvalContext<'_>) -> Result<Vec<usize>> {
        self.input.count(lookup, context)
    }

    fn scan(&self, context: &EvalContext<'_>, visit: Visit<'_>) -> Result<()> {
        let now = context.watermark.now;
        self.input.scan(context, &mut |rows| visit(self.flag(&rows, now)?))
    }

    fn unique(&self) -> Option<Vec<usize>> {
        self.input.unique()
    }

    fn memory(&self) -> usize {
        self.input.memory() + self.ahead_bytes
    }

    fn inputs(&mut self) -> Vec<&mut BoxedOperator> {
        vec![&mut self.input]
    }

    fn state(&mut self) -> Option<&mut dyn OperatorState> {
        Some(self)
    }
}
