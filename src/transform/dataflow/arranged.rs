use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use super::{BoxedOperator, Delta, Moment, Multiset, Operator, Preparation};
use crate::model::{Found, Lookup};

/// Keeps the rows of its input, so that they can be looked up by columns that the input can't be.
#[derive(Debug)]
pub(super) struct Arranged {
    input: BoxedOperator,
    rows: Multiset,
}

impl Arranged {
    pub(super) fn new(input: BoxedOperator) -> Result<Self> {
        let rows = Multiset::new(input.schema())?;
        Ok(Self { input, rows })
    }
}

impl Operator for Arranged {
    fn schema(&self) -> &SchemaRef {
        self.input.schema()
    }

    fn load(&mut self, moment: &Moment<'_>) -> Result<()> {
        self.input.load(moment)?;
        self.rows.clear();
        Ok(self.rows.apply(&Delta::of(self.input.all(moment)?, 1))?)
    }

    fn advance(&mut self, moment: &Moment<'_>) -> Result<Delta> {
        let delta = self.input.advance(moment)?;
        self.rows.apply(&delta)?;
        Ok(delta)
    }

    fn prepare(&mut self, columns: &[usize], _: &mut dyn Preparation) -> bool {
        self.rows.add_index(columns).is_ok()
    }

    fn find(&self, lookup: Lookup<'_>, _: &Moment<'_>) -> Result<Found> {
        Ok(self.rows.find(lookup)?)
    }

    fn all(&self, _: &Moment<'_>) -> Result<RecordBatch> {
        Ok(self.rows.all()?)
    }

    fn unique(&self) -> Option<Vec<usize>> {
        self.input.unique()
    }

    fn memory(&self) -> usize {
        self.input.memory() + self.rows.memory()
    }
}
