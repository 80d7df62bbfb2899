//! `watermark()`: the event time below which nothing is expected any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

pub(crate) const WATERMARK: &str = "watermark";

/// Where `watermark()` reads the watermark from. Microseconds; `i64::MIN` before the first event.
#[derive(Debug, Clone)]
pub(crate) struct WatermarkCell(Arc<AtomicI64>);

impl Default for WatermarkCell {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(i64::MIN)))
    }
}

impl WatermarkCell {
    /// `true` if it differs from before.
    pub(crate) fn set(&self, watermark: Option<i64>) -> bool {
        let new = watermark.unwrap_or(i64::MIN);
        self.0.swap(new, Ordering::Relaxed) != new
    }

    pub(crate) fn function(&self) -> ScalarUDF {
        ScalarUDF::from(Watermark {
            cell: self.clone(),
            signature: Signature::nullary(Volatility::Volatile),
        })
    }
}

/// `watermark()`: the event time below which nothing is expected any more; NULL before the first event.
///
/// Volatile, so that no plan freezes its value.
#[derive(Debug)]
struct Watermark {
    cell: WatermarkCell,
    signature: Signature,
}

impl PartialEq for Watermark {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.cell.0, &other.cell.0)
    }
}

impl Eq for Watermark {}

impl std::hash::Hash for Watermark {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.cell.0).hash(state);
    }
}

impl ScalarUDFImpl for Watermark {
    fn name(&self) -> &str {
        WATERMARK
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Microsecond, None))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let value = match self.cell.0.load(Ordering::Relaxed) {
            i64::MIN => None,
            watermark => Some(watermark),
        };
        Ok(ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(value, None)))
    }
}
