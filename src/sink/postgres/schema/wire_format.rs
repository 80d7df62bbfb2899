//! Arrow cells in Postgres's binary wire format.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array,
    Float64Array, Int64Array, ListArray, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::{cast, filter};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimeUnit,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use bytes::{BufMut, BytesMut};
use tokio_postgres::types::Type;

use super::numeric;

/// Microseconds from 1970 to 2000, where Postgres counts from.
pub(crate) const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Days from 1970 to 2000.
pub(crate) const POSTGRES_EPOCH_DAYS: i32 = 10_957;

/// A Postgres type as it travels in binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    Json,
    Jsonb,
    Bytea,
    Date,
    Timestamp,
    TimestampTz,
    /// Any other type, enums and arrays among them: the text that Postgres reads it from.
    Literal,
}

impl Wire {
    /// The wire form of a column of this type; text, varchar and char travel alike.
    pub(crate) fn of_column(oid: u32) -> Self {
        // Types of extensions and users have no fixed number.
        let Some(known) = Type::from_oid(oid) else { return Self::Literal };
        match known {
            Type::BOOL => Self::Bool,
            Type::INT2 => Self::Int2,
            Type::INT4 => Self::Int4,
            Type::INT8 => Self::Int8,
            Type::FLOAT4 => Self::Float4,
            Type::FLOAT8 => Self::Float8,
            Type::NUMERIC => Self::Numeric,
            Type::TEXT | Type::VARCHAR | Type::BPCHAR => Self::Text,
            Type::JSON => Self::Json,
            Type::JSONB => Self::Jsonb,
            Type::BYTEA => Self::Bytea,
            Type::DATE => Self::Date,
            Type::TIMESTAMP => Self::Timestamp,
            Type::TIMESTAMPTZ => Self::TimestampTz,
            _ => Self::Literal,
        }
    }

    /// The type that holds any value of a declared column: what bootstrap reads it as.
    pub(crate) fn natural(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Bool,
            DataType::Int16 => Self::Int2,
            DataType::Int32 => Self::Int4,
            DataType::Int64 => Self::Int8,
            DataType::Float64 => Self::Float8,
            DataType::Decimal128(_, _) => Self::Numeric,
            DataType::Utf8 => Self::Text,
            DataType::Binary => Self::Bytea,
            DataType::Date32 => Self::Date,
            DataType::Timestamp(TimeUnit::Microsecond, None) => Self::Timestamp,
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Self::TimestampTz,
            _ => return None,
        })
    }

    pub(crate) fn client_type(self) -> Type {
        match self {
            Self::Bool => Type::BOOL,
            Self::Int2 => Type::INT2,
            Self::Int4 => Type::INT4,
            Self::Int8 => Type::INT8,
            Self::Float4 => Type::FLOAT4,
            Self::Float8 => Type::FLOAT8,
            Self::Numeric => Type::NUMERIC,
            Self::Text | Self::Literal => Type::TEXT,
            Self::Json => Type::JSON,
            Self::Jsonb => Type::JSONB,
            Self::Bytea => Type::BYTEA,
            Self::Date => Type::DATE,
            Self::Timestamp => Type::TIMESTAMP,
            Self::TimestampTz => Type::TIMESTAMPTZ,
        }
    }

    /// The type's name in SQL.
    pub(crate) fn sql(self) -> String {
        self.client_type().name().to_owned()
    }

    /// Whether every value of the Arrow type has a place here, out-of-range integers aside.
    pub(crate) fn accepts(self, data_type: &DataType) -> bool {
        let Some(form) = Form::of(data_type) else { return false };
        match form {
            Form::Bool => self == Self::Bool,
            Form::Int => matches!(self, Self::Int2 | Self::Int4 | Self::Int8 | Self::Numeric),
            Form::Decimal { scale } => {
                let is_whole = scale <= 0 && matches!(self, Self::Int2 | Self::Int4 | Self::Int8);
                is_whole || self == Self::Numeric
            }
            Form::Float => {
                let is_single = *data_type == DataType::Float32 && self == Self::Float4;
                is_single || self == Self::Float8
            }
            Form::Text => matches!(self, Self::Text | Self::Json | Self::Jsonb | Self::Literal),
            Form::List => self == Self::Literal,
            Form::Binary => self == Self::Bytea,
            Form::Date => self == Self::Date,
            Form::Timestamp => matches!(self, Self::Timestamp | Self::TimestampTz),
        }
    }
}

/// The families of Arrow types that are written alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Bool,
    Int,
    Decimal { scale: i8 },
    Float,
    Text,
    Binary,
    Date,
    Timestamp,
    List,
}

impl Form {
    fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Bool,
            DataType::UInt64 => Self::Decimal { scale: 0 },
            integer if integer.is_integer() => Self::Int,
            DataType::Decimal32(_, scale)
            | DataType::Decimal64(_, scale)
            | DataType::Decimal128(_, scale) => Self::Decimal { scale: *scale },
            DataType::Float32 | DataType::Float64 => Self::Float,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Self::Binary,
            DataType::Date32 => Self::Date,
            DataType::Timestamp(_, _) => Self::Timestamp,
            DataType::Dictionary(_, values) => return Self::of(values),
            DataType::List(items) => match Self::of(items.data_type())? {
                Self::Binary | Self::List => return None,
                _ => Self::List,
            },
            _ => return None,
        })
    }

    /// The one Arrow type of this family that the encoder reads.
    fn canonical(self, given: &DataType) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Decimal { scale } => DataType::Decimal128(38, scale),
            Self::Float => DataType::Float64,
            Self::Text | Self::List => DataType::Utf8,
            Self::Binary => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Timestamp => match given {
                DataType::Timestamp(_, zone) => {
                    DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
                }
                _ => DataType::Timestamp(TimeUnit::Microsecond, None),
            },
        }
    }
}

/// A column of values, ready to be written cell by cell.
pub(crate) struct WireCells {
    values: WireValues,
    wire: Wire,
    /// Nothing to look up when there are no NULLs.
    has_nulls: bool,
}

pub(crate) enum WireValues {
    Bool(BooleanArray),
    Int(Int64Array),
    Decimal(Decimal128Array, i8),
    Float(Float64Array),
    Text(StringArray),
    Binary(BinaryArray),
    Date(Date32Array),
    Timestamp(TimestampMicrosecondArray),
}

impl WireValues {
    /// `array` is of the form's canonical type.
    fn of(form: Form, array: &ArrayRef) -> Self {
        match form {
            Form::Bool => Self::Bool(array.as_boolean().clone()),
            Form::Int => Self::Int(array.as_primitive::<Int64Type>().clone()),
            Form::Decimal { scale } => {
                Self::Decimal(array.as_primitive::<Decimal128Type>().clone(), scale)
            }
            Form::Float => Self::Float(array.as_primitive::<Float64Type>().clone()),
            Form::Text | Form::List => Self::Text(array.as_string::<i32>().clone()),
            Form::Binary => Self::Binary(array.as_binary::<i32>().clone()),
            Form::Date => Self::Date(array.as_primitive::<Date32Type>().clone()),
            Form::Timestamp => {
                Self::Timestamp(array.as_primitive::<TimestampMicrosecondType>().clone())
            }
        }
    }

    fn form(&self) -> Form {
        match self {
            Self::Bool(_) => Form::Bool,
            Self::Int(_) => Form::Int,
            Self::Decimal(_, scale) => Form::Decimal { scale: *scale },
            Self::Float(_) => Form::Float,
            Self::Text(_) => Form::Text,
            Self::Binary(_) => Form::Binary,
            Self::Date(_) => Form::Date,
            Self::Timestamp(_) => Form::Timestamp,
        }
    }
}

impl WireCells {
    /// # Errors
    /// If the array's type has no wire form; the targets were checked for that at start.
    pub(crate) fn new(array: &ArrayRef, wire: Wire) -> Result<Self, ArrowError> {
        let form = Form::of(array.data_type()).ok_or_else(|| {
            ArrowError::NotYetImplemented(format!("writing {} to Postgres", array.data_type()))
        })?;
        let array = match (form, array.data_type()) {
            // The precision that is stated may be smaller; the values are the same.
            (Form::Decimal { .. }, DataType::Decimal128(_, _)) => ArrayRef::clone(array),
            (Form::List, _) => Arc::new(array_literals(array.as_list())?),
            (_, given) => cast(array, &form.canonical(given))?,
        };
        let values = WireValues::of(form, &array);
        Ok(Self { has_nulls: array.null_count() > 0, values, wire })
    }

    /// Those of the cells that are `kept`.
    pub(crate) fn filter(&self, kept: &BooleanArray) -> Result<Self, ArrowError> {
        let array = filter(self.array(), kept)?;
        let values = WireValues::of(self.values.form(), &array);
        Ok(Self { has_nulls: array.null_count() > 0, values, wire: self.wire })
    }

    pub(crate) fn values(&self) -> &WireValues {
        &self.values
    }

    pub(crate) fn wire(&self) -> Wire {
        self.wire
    }

    fn array(&self) -> &dyn Array {
        match &self.values {
            WireValues::Bool(array) => array,
            WireValues::Int(array) => array,
            WireValues::Decimal(array, _) => array,
            WireValues::Float(array) => array,
            WireValues::Text(array) => array,
            WireValues::Binary(array) => array,
            WireValues::Date(array) => array,
            WireValues::Timestamp(array) => array,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.array().len()
    }

    pub(crate) fn null_count(&self) -> usize {
        self.array().null_count()
    }

    /// Why the number of this cell does not fit; it must not be NULL.
    pub(crate) fn out_of_range(&self, row: usize) -> Option<String> {
        self.write(row, &mut BytesMut::with_capacity(16)).err()
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.has_nulls && self.array().is_null(row)
    }

    /// Appends the cell with its length in front, as COPY and array elements have it.
    ///
    /// # Errors
    /// One sentence about a value that the target's type cannot hold.
    pub(crate) fn write(&self, row: usize, out: &mut BytesMut) -> Result<(), String> {
        let rest = self.begin(row, out)?;
        out.put_slice(rest);
        Ok(())
    }

    /// The same without the bytes of a text or binary value, which are to follow: they may be many.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(crate) fn begin(&self, row: usize, out: &mut BytesMut) -> Result<&[u8], String> {
        if self.is_null(row) {
            out.put_i32(-1);
            return Ok(&[]);
        }
        match &self.values {
            WireValues::Bool(array) => {
                out.put_i32(1);
                out.put_u8(array.value(row).into());
            }
            WireValues::Int(array) => self.write_integer(i128::from(array.value(row)), out)?,
            WireValues::Decimal(array, scale) => {
                self.write_decimal(array.value(row), *scale, out)?
            }
            WireValues::Float(array) if self.wire == Wire::Float4 => {
                out.put_i32(4);
                out.put_f32(array.value(row) as f32);
            }
            WireValues::Float(array) => {
                out.put_i32(8);
                out.put_f64(array.value(row));
            }
            WireValues::Text(array) => return self.begin_text(array.value(row), out),
            WireValues::Binary(array) => {
                let bytes = array.value(row);
                out.put_i32(bytes.len() as i32);
                return Ok(bytes);
            }
            WireValues::Date(array) => {
                let days = array.value(row).checked_sub(POSTGRES_EPOCH_DAYS);
                out.put_i32(4);
                out.put_i32(days.ok_or("date out of range (22008)")?);
            }
            WireValues::Timestamp(array) => {
                let micros = array.value(row).checked_sub(POSTGRES_EPOCH_MICROS);
                out.put_i32(8);
                out.put_i64(micros.ok_or("timestamp out of range (22008)")?);
            }
        }
        Ok(&[])
    }

    fn write_integer(&self, value: i128, out: &mut BytesMut) -> Result<(), String> {
        let refused = |_| format!("the value is out of the range of {} (22003)", self.wire.sql());
        match self.wire {
            Wire::Int2 => {
                out.put_i32(2);
                out.put_i16(i16::try_from(value).map_err(refused)?);
            }
            Wire::Int4 => {
                out.put_i32(4);
                out.put_i32(i32::try_from(value).map_err(refused)?);
            }
            Wire::Int8 => {
                out.put_i32(8);
                out.put_i64(i64::try_from(value).map_err(refused)?);
            }
            _ => with_length(out, |out| numeric::encode(value, 0, out)),
        }
        Ok(())
    }

    fn write_decimal(&self, value: i128, scale: i8, out: &mut BytesMut) -> Result<(), String> {
        if self.wire == Wire::Numeric {
            with_length(out, |out| numeric::encode(value, scale, out));
            return Ok(());
        }
        let whole = 10i128.checked_pow(u32::from(scale.unsigned_abs()));
        let whole = whole.and_then(|factor| value.checked_mul(factor));
        let whole = whole.ok_or_else(|| "the value is too large (22003)".to_owned())?;
        self.write_integer(whole, out)
    }

    fn begin_text<'t>(&self, text: &'t str, out: &mut BytesMut) -> Result<&'t [u8], String> {
        if let Some(at) = text.as_bytes().iter().position(|byte| *byte == 0) {
            return Err(format!(
                "a NUL character at byte {at}, which Postgres can't store (22021)"
            ));
        }
        let version: &[u8] = if self.wire == Wire::Jsonb { &[1] } else { &[] };
        let length = i32::try_from(text.len() + version.len());
        out.put_i32(length.map_err(|_| "a text of more than 2 GB".to_owned())?);
        out.put_slice(version);
        Ok(text.as_bytes())
    }
}

/// Writes a value whose length is known only afterwards.
fn with_length(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_i32(0);
    write(out);
    let length = (out.len() - at - 4) as i32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// Each list as Postgres reads an array: `{"a","b",NULL}`.
fn array_literals(lists: &ListArray) -> Result<StringArray, ArrowError> {
    let literal = |items: ArrayRef| {
        let item = |at: usize| {
            if items.is_null(at) {
                Ok("NULL".to_owned())
            } else {
                let text = array_value_to_string(&items, at)?;
                Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
            }
        };
        let items = (0..items.len()).map(item).collect::<Result<Vec<_>, ArrowError>>()?;
        Ok(format!("{{{}}}", items.join(",")))
    };
    lists.iter().map(|items| items.map(literal).transpose()).collect()
}
