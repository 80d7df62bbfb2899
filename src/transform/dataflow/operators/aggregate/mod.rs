//! GROUP BY and DISTINCT: a small state per group, from which rows can be taken out again.
//!
//! With T the groups of dI's rows and row(g) what a group shows, `d = row(T after) - row(T before)`.
//!
//! Counts and sums are exact and go up and down; MIN, MAX and COUNT(DISTINCT) keep the values of the
//! group in their order; every other function keeps them too and is run over those of a group that
//! changed.

mod call;
mod group;
mod values;

pub(crate) use call::Call;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::row::{Row, RowConverter, SortField};
use datafusion::common::internal_err;
use datafusion::error::Result;
use hashbrown::HashMap;

use crate::model::{Found, KeyBytes as Key, Lookup, StateSpace, StateWrites};
use crate::transform::dataflow::delta::Delta;
use crate::transform::dataflow::expression::{Expression, evaluate};
use crate::transform::dataflow::keyed_state::{Held, KeyedState};
use crate::transform::dataflow::operator::{
    BoxedOperator, EvalContext, IndexRequests, Operator, Visit,
};
use crate::transform::dataflow::operator_state::{EpochStep, OperatorState, UndoLog};
use crate::transform::dataflow::operators::constant::Constant;
use crate::transform::dataflow::rows;
use call::{CallInput, GroupState};
use group::Group;

#[derive(Debug)]
pub(crate) struct Aggregate {
    input: BoxedOperator,
    group: Vec<Expression>,
    calls: Vec<Call>,
    converter: RowConverter,
    groups: KeyedState<Group>,
    undo: UndoLog<(Delta, Grouping)>,
    schema: SchemaRef,
}

/// Which groups some rows are in.
#[derive(Debug)]
struct Grouping {
    /// Of each group, once.
    keys: Vec<Key>,
    /// Of each row: the place of its group among the keys.
    group_of: Vec<usize>,
}

impl Aggregate {
    pub(crate) fn new(
        input: BoxedOperator,
        group: Vec<(Expression, String)>,
        calls: Vec<Call>,
    ) -> Result<Self> {
        let mut fields = Vec::new();
        for (expression, name) in &group {
            fields.push(Arc::new(Field::new(name, expression.data_type(input.schema())?, true)));
        }
        let keys = fields.iter().map(|field| SortField::new(field.data_type().clone())).collect();
        fields.extend(calls.iter().map(|call| {
            let field = call.field();
            Arc::new(Field::new(field.name(), field.data_type().clone(), true))
        }));
        let group = group.into_iter().map(|(expression, _)| expression).collect();
        let (converter, schema) = (RowConverter::new(keys)?, Arc::new(Schema::new(fields)));
        Ok(Self {
            input,
            group,
            calls,
            converter,
            groups: KeyedState::default(),
            undo: UndoLog::default(),
            schema,
        })
    }

    /// Without GROUP BY there is one group, even without a row.
    fn is_global(&self) -> bool {
        self.group.is_empty()
    }

    fn new_group(&self) -> Group {
        Group { rows: 0, states: self.calls.iter().map(Call::new_state).collect() }
    }

    fn group_rows(&self, rows: &RecordBatch) -> Result<Grouping> {
        if self.is_global() {
            return Ok(Grouping { keys: vec![Key::default()], group_of: vec![0; rows.num_rows()] });
        }
        let columns = self.group.iter().map(|expression| evaluate(expression, rows));
        let encoded = self.converter.convert_columns(&columns.collect::<Result<Vec<_>>>()?)?;
        let (mut keys, mut group_of) = (Vec::new(), Vec::with_capacity(rows.num_rows()));
        let mut known: HashMap<Row<'_>, usize> = HashMap::with_capacity(rows.num_rows());
        for row in &encoded {
            let group = *known.entry(row).or_insert_with(|| {
                keys.push(Key::from(row.as_ref()));
                keys.len() - 1
            });
            group_of.push(group);
        }
        Ok(Grouping { keys, group_of })
    }

    /// Takes rows into their groups, or out of them: all of them, or after an error none.
    fn apply(&mut self, delta: &Delta, grouping: &Grouping) -> Result<()> {
        let input = self.input_of(delta)?;
        self.add_groups(&grouping.keys);
        // What comes goes first: rows that cancel out may be in any order, and no value goes before it came.
        let (coming, going): (Vec<usize>, Vec<usize>) =
            (0..grouping.group_of.len()).partition(|row| delta.weights[*row] > 0);
        let order: Vec<usize> = coming.into_iter().chain(going).collect();
        for (done, row) in order.iter().enumerate() {
            let key = &grouping.keys[grouping.group_of[*row]];
            if let Err(error) = self.add_row(key, &input, *row, delta.weights[*row]) {
                for row in order[..done].iter().rev() {
                    let key = &grouping.keys[grouping.group_of[*row]];
                    self.add_row(key, &input, *row, -delta.weights[*row])?;
                }
                self.prune(&grouping.keys)?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Undoes [`Self::apply`]. Back on the same way, so that no sum is ever larger than it was.
    fn take_back(&mut self, delta: &Delta, grouping: &Grouping) -> Result<()> {
        let input = self.input_of(delta)?;
        self.add_groups(&grouping.keys);
        let (coming, going): (Vec<usize>, Vec<usize>) =
            (0..grouping.group_of.len()).partition(|row| delta.weights[*row] > 0);
        for row in going.into_iter().rev().chain(coming.into_iter().rev()) {
            let key = &grouping.keys[grouping.group_of[row]];
            self.add_row(key, &input, row, -delta.weights[row])?;
        }
        self.prune(&grouping.keys)
    }

    fn input_of(&self, delta: &Delta) -> Result<GroupInput> {
        let inputs = self.calls.iter().map(|call| call.input(&delta.rows));
        let filters = self.calls.iter().map(|call| call.filter(&delta.rows));
        Ok(GroupInput {
            inputs: inputs.collect::<Result<_>>()?,
            filters: filters.collect::<Result<_>>()?,
        })
    }

    fn add_groups(&mut self, keys: &[Key]) {
        for key in keys {
            if self.groups.get(key).is_none() {
                self.groups.insert(key, self.new_group());
            }
        }
    }

    /// Takes one row into its group or out of it; after an error it is as if nothing was done.
    fn add_row(&mut self, key: &Key, input: &GroupInput, row: usize, weight: i64) -> Result<()> {
        let Self { groups, calls, .. } = self;
        groups.change(key, |group| input.add(calls, group, row, weight)).unwrap_or(Ok(()))
    }

    /// Groups without rows are forgotten.
    fn prune(&mut self, keys: &[Key]) -> Result<()> {
        for key in keys {
            match self.groups.get(key).map(|group| group.rows) {
                Some(rows) if rows < 0 => {
                    return internal_err!("a group has lost more rows than it had");
                }
                Some(0) if !self.is_global() => drop(self.groups.remove(key)),
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    /// One row for each of the keys that has a group in memory.
    fn rows_here(&self, keys: &[Key]) -> Result<RecordBatch> {
        let here = keys.iter().filter_map(|key| Some((&**key, self.groups.get(key)?)));
        self.rows_of(&here.collect::<Vec<_>>())
    }

    /// One row for each group.
    fn rows_of(&self, groups: &[(&[u8], &Group)]) -> Result<RecordBatch> {
        let parser = self.converter.parser();
        let mut columns = if self.is_global() {
            Vec::new()
        } else {
            self.converter.convert_rows(groups.iter().map(|(key, _)| parser.parse(key)))?
        };
        for (at, call) in self.calls.iter().enumerate() {
            let states: Vec<&GroupState> =
                groups.iter().map(|(_, group)| &group.states[at]).collect();
            columns.push(call.evaluate(&states)?);
        }
        Ok(rows::batch(&self.schema, columns, groups.len())?)
    }
}

/// What the rows of a delta put into the groups, per call, and which of them take part.
struct GroupInput {
    inputs: Vec<CallInput>,
    filters: Vec<Option<BooleanArray>>,
}

impl GroupInput {
    /// Takes one row into a group or out of it; after an error it is as if nothing was done.
    fn add(&self, calls: &[Call], group: &mut Group, row: usize, weight: i64) -> Result<()> {
        let takes_part =
            |at: usize| self.filters[at].as_ref().is_none_or(|filter| filter.value(row));
        for at in (0..calls.len()).filter(|at| takes_part(*at)) {
            let added = calls[at].add(&mut group.states[at], &self.inputs[at], row, weight);
            if let Err(error) = added {
                for before in (0..at).rev().filter(|at| takes_part(*at)) {
                    calls[before].add(
                        &mut group.states[before],
                        &self.inputs[before],
                        row,
                        -weight,
                    )?;
                }
                return Err(error);
            }
        }
        group.rows += weight;
        Ok(())
    }
}

impl OperatorState for Aggregate {
    fn step(&mut self, step: EpochStep) -> Result<()> {
        let applied = self.undo.step(step);
        applied.into_iter().try_for_each(|(delta, grouping)| self.take_back(&delta, &grouping))
    }

    fn open(&mut self, space: Arc<dyn StateSpace>, kept: Option<&[u64]>) -> Result<()> {
        self.groups.open(space, kept.and_then(|counts| counts.first().copied()));
        Ok(())
    }

    fn flush(&mut self, writes: &mut dyn StateWrites) {
        self.groups.flush(writes);
    }

    fn note_flushed(&mut self, is_done: bool) {
        self.groups.note_flushed(is_done);
    }

    fn kept(&self) -> Option<(&Arc<dyn StateSpace>, Vec<u64>)> {
        Some((self.groups.space()?, vec![self.groups.stored()]))
    }

    fn let_go(&mut self, bytes: usize) -> usize {
        self.groups.let_go(bytes)
    }

    fn may_leave(&self) -> usize {
        self.groups.memory()
    }

    fn changed_bytes(&self) -> usize {
        self.groups.changed_bytes()
    }
}

impl Operator for Aggregate {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn load(&mut self, context: &EvalContext<'_>) -> Result<()> {
        self.input.load(context)?;
        self.groups.clear();
        if self.is_global() {
            self.groups.insert(&[], self.new_group());
        }
        // Taken out for the scan, because the groups change meanwhile.
        let none = Constant::boxed(RecordBatch::new_empty(SchemaRef::clone(self.input.schema())));
        let input = std::mem::replace(&mut self.input, none);
        let loaded = input.scan(context, &mut |part| {
            let delta = Delta::of(part, 1);
            if delta.is_empty() {
                return Ok(());
            }
            let grouping = self.group_rows(&delta.rows)?;
            self.groups.recall(grouping.keys.iter().map(|key| &**key))?;
            self.apply(&delta, &grouping)?;
            Ok(self.groups.spill()?)
        });
        self.input = input;
        loaded
    }

    fn advance(&mut self, context: &EvalContext<'_>) -> Result<Delta> {
        let delta = self.input.advance(context)?;
        if delta.is_empty() {
            return Ok(Delta::empty(&self.schema));
        }
        let grouping = self.group_rows(&delta.rows)?;
        self.groups.recall(grouping.keys.iter().map(|key| &**key))?;
        let before = self.rows_here(&grouping.keys)?;
        self.apply(&delta, &grouping)?;
        let after = self.prune(&grouping.keys).and_then(|()| self.rows_here(&grouping.keys));
        self.undo.note(|| (delta, grouping));
        Ok(Delta::sum(&self.schema, vec![Delta::of(before, -1), Delta::of(after?, 1)])?)
    }

    fn prepare(&mut self, columns: &[usize], _: &mut dyn IndexRequests) -> bool {
        let width = self.group.len();
        width > 0 && columns.len() == width && (0..width).all(|column| columns.contains(&column))
    }

    fn find(&self, lookup: Lookup<'_>, _: &EvalContext<'_>) -> Result<Found> {
        let mut keys: Vec<ArrayRef> = Vec::new();
        for column in 0..self.group.len() {
            let at = lookup.columns.iter().position(|c| *c == column);
            let Some(at) = at else {
                return internal_err!("a group is looked up by a part of its key");
            };
            let data_type = self.schema.field(column).data_type();
            keys.push(arrow::compute::cast(&lookup.keys[at], data_type)?);
        }
        let encoded = self.converter.convert_columns(&keys)?;
        let (mut found, mut key_of): (Vec<(usize, Held<'_, Group>)>, Vec<u32>) = Default::default();
        for (at, key) in encoded.iter().enumerate() {
            let can_match = lookup.nulls_match || !keys.iter().any(|column| column.is_null(at));
            if can_match && let Some(group) = self.groups.find(key.as_ref())? {
                found.push((at, group));
                key_of.push(at as u32);
            }
        }
        let keys: Vec<Row<'_>> = found.iter().map(|(at, _)| encoded.row(*at)).collect();
        let groups = keys.iter().zip(&found).map(|(key, (_, group))| (key.as_ref(), &**group));
        Ok(Found { rows: self.rows_of(&groups.collect::<Vec<_>>())?, key_of })
    }

    fn scan(&self, _: &EvalContext<'_>, visit: Visit<'_>) -> Result<()> {
        self.groups.scan(&mut |groups| visit(self.rows_of(groups)?))
    }

    fn unique(&self) -> Option<Vec<usize>> {
        Some((0..self.group.len()).collect())
    }

    fn memory(&self) -> usize {
        self.input.memory() + self.groups.memory()
    }

    fn inputs(&mut self) -> Vec<&mut BoxedOperator> {
        vec![&mut self.input]
    }

    fn state(&mut self) -> Option<&mut dyn OperatorState> {
        Some(self)
    }
}
