//! `xml_rows(xml, path, 'name TYPE path', ...)`: the rows in a document, as a list of structs to be unnested.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::transform::files::parse_type;
use crate::xml::{Extractor, MissingValue, Shape, ShapeColumn, ShapeRows, XmlLimits};

pub(crate) const XML_ROWS: &str = "xml_rows";
/// In place of type and path: the number of the row in its document, from 1 on.
pub(crate) const ORDINALITY: &str = "ORDINALITY";

/// Between the path of a column and the text that stands for a value that is missing or not of its type.
pub(crate) const DEFAULT: &str = "DEFAULT";

pub(crate) fn function() -> ScalarUDF {
    ScalarUDF::from(XmlRows { signature: Signature::variadic_any(Volatility::Immutable) })
}

/// A document that can't be read has no rows, and a value that is not of its type is NULL or the default: what a row has
/// once landed must not stop the query.
#[derive(Debug, PartialEq, Eq, Hash)]
struct XmlRows {
    signature: Signature,
}

impl ScalarUDFImpl for XmlRows {
    fn name(&self) -> &str {
        XML_ROWS
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        plan_err!("the type of {XML_ROWS} depends on its columns")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let texts: Vec<Option<&str>> =
            args.scalar_arguments.iter().skip(1).map(|scalar| scalar.and_then(text)).collect();
        let list = list_of(Spec::parse(&texts)?.fields());
        Ok(Arc::new(Field::new(XML_ROWS, list, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalars = args.args.iter().skip(1).map(|argument| match argument {
            ColumnarValue::Scalar(scalar) => text(scalar),
            ColumnarValue::Array(_) => None,
        });
        let spec = Spec::parse(&scalars.collect::<Vec<_>>())?;
        let Some(documents) = args.args.first() else { return plan_err!("{USAGE}") };
        let is_scalar = matches!(documents, ColumnarValue::Scalar(_));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let documents = cast(&documents.to_array(rows)?, &DataType::Utf8)?;
        let list = spec.read(&documents)?;
        if is_scalar {
            Ok(ColumnarValue::Scalar(ScalarValue::List(Arc::new(list))))
        } else {
            Ok(ColumnarValue::Array(Arc::new(list)))
        }
    }
}

const USAGE: &str = "xml_rows is called as in xml_rows(shipping_info, './/item', 'product_id BIGINT @product_id', \
                     'name VARCHAR name'): the document, the path of the rows, and one text per column";

fn text(scalar: &ScalarValue) -> Option<&str> {
    scalar.try_as_str().flatten()
}

fn list_of(fields: Fields) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Struct(fields), true)))
}

/// What a call asks for.
struct Spec {
    shape: Arc<Shape>,
    /// Names and places of columns with the number of the row.
    numbered: Vec<(String, usize)>,
}

impl Spec {
    /// The path of the rows and one text for each column: its name, its type, its path.
    fn parse(texts: &[Option<&str>]) -> Result<Self> {
        let problem = |problem: String| DataFusionError::Plan(format!("{XML_ROWS}: {problem}"));
        let [Some(row), texts @ ..] = texts else { return plan_err!("{USAGE}") };
        if texts.is_empty() {
            return plan_err!("{USAGE}");
        }
        let (mut columns, mut numbered) = (Vec::new(), Vec::new());
        for (at, text) in texts.iter().enumerate() {
            let Some(text) = text else { return plan_err!("{USAGE}") };
            match text.split_once(char::is_whitespace) {
                Some((name, rest)) if rest.trim().eq_ignore_ascii_case(ORDINALITY) => {
                    numbered.push((name.to_owned(), at));
                }
                _ => columns.push(column(text).map_err(problem)?),
            }
        }
        let shape = Arc::new(Shape::new(row, columns).map_err(problem)?);
        Ok(Self { shape, numbered })
    }

    fn fields(&self) -> Fields {
        let field = |column: &ShapeColumn| Field::new(&column.name, column.data_type.clone(), true);
        let mut fields: Vec<Field> = self.shape.columns().iter().map(field).collect();
        for (name, at) in &self.numbered {
            fields.insert(*at, Field::new(name, DataType::Int64, true));
        }
        fields.into()
    }

    fn read(&self, documents: &ArrayRef) -> Result<ListArray> {
        let mut extractor = Extractor::new(std::slice::from_ref(&self.shape), XmlLimits::default());
        let mut cells = ShapeRows::new(&self.shape);
        let mut lengths = Vec::with_capacity(documents.len());
        for document in documents.as_string::<i32>() {
            let is_read = document.is_some_and(|document| extractor.read(document).is_ok());
            let mut rows = 0;
            if is_read {
                let appended = cells.append(&extractor, 0, MissingValue::Default);
                rows = appended.map_err(DataFusionError::Execution)?.rows;
            }
            lengths.push(rows);
        }
        let numbers = || lengths.iter().flat_map(|length| 1..=*length as i64);
        let mut arrays = cells.finish();
        for (_, at) in &self.numbered {
            arrays.insert(*at, Arc::new(Int64Array::from_iter_values(numbers())));
        }
        let rows: usize = lengths.iter().sum();
        let structs = StructArray::try_new_with_length(self.fields(), arrays, None, rows)?;
        let item = Arc::new(Field::new_list_field(DataType::Struct(self.fields()), true));
        let offsets = OffsetBuffer::from_lengths(lengths);
        let nulls = documents.nulls().map(|nulls| NullBuffer::new(nulls.inner().clone()));
        Ok(ListArray::try_new(item, offsets, Arc::new(structs), nulls)?)
    }
}

fn column(text: &str) -> std::result::Result<ShapeColumn, String> {
    let expected =
        || format!("'{text}' is not the name, type and path of a column, as in 'id BIGINT @id'");
    let (text, default) = match text.split_once(&format!(" {DEFAULT} ")) {
        Some((text, default)) => (text.trim(), Some(default)),
        None => (text.trim(), None),
    };
    let (name, rest) = text.split_once(char::is_whitespace).ok_or_else(expected)?;
    let (sql_type, path) = rest.trim().rsplit_once(char::is_whitespace).ok_or_else(expected)?;
    let data_type = parse_type(sql_type)?;
    if data_type == DataType::Binary {
        return Err(format!("'{text}' has a type that XML has no form for"));
    }
    let column = ShapeColumn::new(name, data_type, path)?;
    match default {
        None => Ok(column),
        Some(default) => column.with_default(default),
    }
}
