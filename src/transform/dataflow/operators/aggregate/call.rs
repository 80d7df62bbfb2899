//! One aggregate function of a query: what it keeps per group, and what it says about a group.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int64Array, RecordBatch,
};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Decimal128Type, FieldRef, Int64Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::values::ValueCounts;
use crate::transform::dataflow::expression::{Expression, evaluate, mask};

/// What an aggregate needs to keep, so that rows can be taken out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AggregateKind {
    /// How many rows have a value.
    Count,
    /// A sum of BIGINT or DECIMAL.
    Sum,
    /// A sum of DECIMAL and how many there are; the digits that the average has more than the sum.
    Average {
        more_digits: u32,
    },
    Min,
    Max,
    /// How many different values there are.
    CountDistinct,
    /// Any other function: the values themselves, over which it is run when they change.
    Function,
}

/// What is kept per group.
#[derive(Debug)]
pub(crate) enum GroupState {
    Sum { rows: i64, sum: Sum },
    Values(ValueCounts),
}

impl Default for GroupState {
    fn default() -> Self {
        Self::Sum { rows: 0, sum: Sum::default() }
    }
}

/// A number of 128 bits that needs no more alignment than one of 64: there is one in every group.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    high: i64,
    low: u64,
}

impl Sum {
    pub(super) fn get(self) -> i128 {
        (i128::from(self.high) << 64) | i128::from(self.low)
    }
}

impl From<i128> for Sum {
    fn from(sum: i128) -> Self {
        Self { high: (sum >> 64) as i64, low: sum as u64 }
    }
}

#[derive(Debug)]
pub(crate) struct Call {
    function: Arc<AggregateFunctionExpr>,
    filter: Option<Expression>,
    kind: AggregateKind,
    /// The columns to order by, then the arguments.
    inputs: Vec<Expression>,
    ordering: usize,
    converter: RowConverter,
}

/// What the rows of one delta put into the groups.
pub(crate) enum CallInput {
    /// Nothing but that they are there.
    Rows,
    Numbers(ArrayRef),
    Encoded {
        values: Rows,
        first: ArrayRef,
    },
}

impl Call {
    pub(crate) fn new(
        function: Arc<AggregateFunctionExpr>,
        filter: Option<Expression>,
        schema: &arrow::datatypes::Schema,
    ) -> Result<Self> {
        let arguments = function.expressions();
        let types = arguments.iter().map(|e| e.data_type(schema)).collect::<Result<Vec<_>>>()?;
        let kind = kind(&function, &types);
        let is_ordered = kind == AggregateKind::Function;
        let order_bys = if is_ordered { function.order_bys() } else { &[] };
        let mut fields = Vec::new();
        for order in order_bys {
            let data_type = order.expr.data_type(schema)?;
            fields.push(SortField::new_with_options(data_type, order.options));
        }
        let plain = |data_type| SortField::new_with_options(data_type, SortOptions::default());
        fields.extend(types.into_iter().map(plain));
        let ordering = order_bys.len();
        let inputs =
            order_bys.iter().map(|order| Arc::clone(&order.expr)).chain(arguments).collect();
        let converter = RowConverter::new(fields)?;
        Ok(Self { function, filter, kind, inputs, ordering, converter })
    }

    pub(crate) fn field(&self) -> FieldRef {
        self.function.field()
    }

    pub(crate) fn new_state(&self) -> GroupState {
        match self.kind {
            AggregateKind::Count | AggregateKind::Sum | AggregateKind::Average { .. } => {
                GroupState::default()
            }
            AggregateKind::Min
            | AggregateKind::Max
            | AggregateKind::CountDistinct
            | AggregateKind::Function => GroupState::Values(ValueCounts::default()),
        }
    }

    /// Which rows take part, if not all.
    pub(crate) fn filter(&self, rows: &RecordBatch) -> Result<Option<BooleanArray>> {
        self.filter.as_ref().map(|filter| mask(filter, rows)).transpose()
    }

    pub(crate) fn input(&self, rows: &RecordBatch) -> Result<CallInput> {
        let columns =
            self.inputs.iter().map(|input| evaluate(input, rows)).collect::<Result<Vec<_>>>()?;
        Ok(match (self.kind, columns.first()) {
            (_, None) => CallInput::Rows,
            (
                AggregateKind::Count | AggregateKind::Sum | AggregateKind::Average { .. },
                Some(first),
            ) => CallInput::Numbers(Arc::clone(first)),
            (_, Some(first)) => {
                let first = Arc::clone(first);
                CallInput::Encoded { values: self.converter.convert_columns(&columns)?, first }
            }
        })
    }

    /// Adds one row to a group, or takes it out.
    pub(crate) fn add(
        &self,
        state: &mut GroupState,
        input: &CallInput,
        row: usize,
        weight: i64,
    ) -> Result<()> {
        match (state, input) {
            (GroupState::Sum { rows, .. }, CallInput::Rows) => *rows += weight,
            (GroupState::Sum { rows, sum }, CallInput::Numbers(numbers)) => {
                if numbers.is_null(row) {
                    return Ok(());
                }
                if self.kind != AggregateKind::Count {
                    let product = number(numbers, row).checked_mul(i128::from(weight));
                    let total = product.and_then(|product| sum.get().checked_add(product));
                    *sum = total.ok_or_else(|| self.overflow())?.into();
                }
                *rows += weight;
            }
            (GroupState::Values(values), CallInput::Encoded { values: encoded, first }) => {
                // A function of its own decides about NULLs itself.
                if self.kind != AggregateKind::Function && first.is_null(row) {
                    return Ok(());
                }
                if !values.add(encoded.row(row).as_ref(), weight) {
                    return internal_err!(
                        "{} was to forget a value that it never saw",
                        self.name()
                    );
                }
            }
            (GroupState::Sum { .. }, CallInput::Encoded { .. })
            | (GroupState::Values(_), CallInput::Rows | CallInput::Numbers(_)) => {
                return internal_err!("{} keeps another kind of state", self.name());
            }
        }
        Ok(())
    }

    fn name(&self) -> &str {
        self.function.name()
    }

    fn overflow(&self) -> DataFusionError {
        let (name, data_type) = (self.name(), self.field().data_type().clone());
        DataFusionError::Execution(format!("{name} is beyond what {data_type} can hold"))
    }

    /// The value for each of some groups.
    pub(crate) fn evaluate(&self, states: &[&GroupState]) -> Result<ArrayRef> {
        let sums = || {
            states.iter().map(|state| match state {
                GroupState::Sum { rows, sum } => (*rows, sum.get()),
                GroupState::Values(values) => (values.len() as i64, 0),
            })
        };
        match self.kind {
            AggregateKind::Count | AggregateKind::CountDistinct => {
                Ok(Arc::new(Int64Array::from_iter_values(sums().map(|(rows, _)| rows))))
            }
            AggregateKind::Sum => {
                self.numbers(sums().map(|(rows, sum)| Ok((rows != 0).then_some(sum))))
            }
            AggregateKind::Average { more_digits } => self.numbers(sums().map(|(rows, sum)| {
                if rows == 0 {
                    return Ok(None);
                }
                let scaled = sum.checked_mul(10i128.pow(more_digits));
                scaled.map(|sum| Some(sum / i128::from(rows))).ok_or_else(|| self.overflow())
            })),
            AggregateKind::Min => self.decode(states, ValueCounts::first),
            AggregateKind::Max => self.decode(states, ValueCounts::last),
            AggregateKind::Function => self.run(states),
        }
    }

    fn numbers(&self, values: impl Iterator<Item = Result<Option<i128>>>) -> Result<ArrayRef> {
        let values = values.collect::<Result<Vec<_>>>()?;
        match self.field().data_type() {
            DataType::Decimal128(precision, scale) => {
                let array =
                    Decimal128Array::from(values).with_precision_and_scale(*precision, *scale)?;
                array.validate_decimal_precision(*precision).map_err(|_| self.overflow())?;
                Ok(Arc::new(array))
            }
            _ => {
                let narrow = |value: Option<i128>| {
                    value.map(|v| i64::try_from(v).map_err(|_| self.overflow())).transpose()
                };
                let values = values.into_iter().map(narrow).collect::<Result<Vec<_>>>()?;
                Ok(Arc::new(Int64Array::from(values)))
            }
        }
    }

    /// One value per group, NULL for a group without any.
    fn decode(
        &self,
        states: &[&GroupState],
        pick: impl Fn(&ValueCounts) -> Option<&[u8]>,
    ) -> Result<ArrayRef> {
        let picked: Vec<Option<&[u8]>> = states
            .iter()
            .map(|state| match state {
                GroupState::Values(values) => pick(values),
                GroupState::Sum { .. } => None,
            })
            .collect();
        let values = self.columns(picked.iter().flatten().copied())?;
        let mut next = 0u32;
        let at = picked.iter().map(|value| {
            value.map(|_| {
                next += 1;
                next - 1
            })
        });
        let at: arrow::array::UInt32Array = at.collect();
        if next == 0 {
            return Ok(arrow::array::new_null_array(self.field().data_type(), at.len()));
        }
        Ok(arrow::compute::take(&values[0], &at, None)?)
    }

    fn columns<'a>(
        &self,
        values: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        let parser = self.converter.parser();
        self.converter.convert_rows(values.map(|value| parser.parse(value)))
    }

    /// DataFusion's own accumulator over the values of each group, in their order.
    fn run(&self, states: &[&GroupState]) -> Result<ArrayRef> {
        let mut results = Vec::with_capacity(states.len());
        for state in states {
            let values = match state {
                GroupState::Values(values) => values.repeated(),
                GroupState::Sum { .. } => Vec::new(),
            };
            let mut columns = self.columns(values.into_iter())?;
            // The accumulator wants the arguments first.
            columns.rotate_left(self.ordering);
            let mut accumulator = self.function.create_accumulator()?;
            if !columns.is_empty() && !columns[0].is_empty() {
                accumulator.update_batch(&columns)?;
            }
            results.push(accumulator.evaluate()?);
        }
        if results.is_empty() {
            return Ok(arrow::array::new_empty_array(self.field().data_type()));
        }
        ScalarValue::iter_to_array(results)
    }
}

impl GroupState {
    pub(crate) fn memory(&self) -> usize {
        match self {
            Self::Sum { .. } => 0,
            Self::Values(values) => values.memory(),
        }
    }
}

fn kind(function: &AggregateFunctionExpr, arguments: &[DataType]) -> AggregateKind {
    let result = function.field();
    match (function.fun().name(), arguments, result.data_type()) {
        ("count", [_], _) if function.is_distinct() => AggregateKind::CountDistinct,
        ("count", [_], _) => AggregateKind::Count,
        ("sum", [DataType::Int64], DataType::Int64) if !function.is_distinct() => {
            AggregateKind::Sum
        }
        ("sum", [DataType::Decimal128(_, from)], DataType::Decimal128(_, to))
            if from == to && !function.is_distinct() =>
        {
            AggregateKind::Sum
        }
        ("avg", [DataType::Decimal128(_, from)], DataType::Decimal128(_, to))
            if to >= from && !function.is_distinct() =>
        {
            AggregateKind::Average { more_digits: u32::from((to - from).unsigned_abs()) }
        }
        // The order of encoded floats is that of SQL but for zeros of both signs.
        ("min", [data_type], _) if has_total_order(data_type) => AggregateKind::Min,
        ("max", [data_type], _) if has_total_order(data_type) => AggregateKind::Max,
        _ => AggregateKind::Function,
    }
}

fn has_total_order(data_type: &DataType) -> bool {
    !data_type.is_nested() && !data_type.is_floating()
}

/// The number in a BIGINT or DECIMAL column, without its scale.
fn number(numbers: &ArrayRef, row: usize) -> i128 {
    match numbers.data_type() {
        DataType::Decimal128(_, _) => numbers.as_primitive::<Decimal128Type>().value(row),
        DataType::Int64 => i128::from(numbers.as_primitive::<Int64Type>().value(row)),
        _ => 0,
    }
}
