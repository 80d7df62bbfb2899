//! What the fuzz target of documents calls, and the tests with what the fuzzer found.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};

use super::config::MissingValue;
use super::document::{Extractor, text_of_bytes};
use super::error::{XmlError, XmlLimits};
use super::paths::{Shape, ShapeColumn};
use super::shape_rows::ShapeRows;

/// Small, so that they come up.
const LIMITS: XmlLimits = XmlLimits { bytes: 3000, depth: 12, rows: 50, value_bytes: 200 };

/// Rows, and their columns with all ways to go from a row.
const SHAPES: [(&str, &[(&str, DataType)]); 3] = [
    (
        ".//item",
        &[
            ("@id", DataType::Int64),
            ("price/text()", DataType::Decimal128(15, 2)),
            ("../@id", DataType::Utf8),
            (".", DataType::Utf8),
        ],
    ),
    (
        "/order/lines/line[2]",
        &[("../../@at", DataType::Timestamp(TimeUnit::Microsecond, None)), ("sku", DataType::Utf8)],
    ),
    (
        "//a//b",
        &[
            ("text()", DataType::Float64),
            (".//c[2]/@x", DataType::Boolean),
            ("@d", DataType::Date32),
        ],
    ),
];

/// What a document has: of each shape its rows, with their cells.
type Found = Vec<Vec<Vec<Option<String>>>>;

/// A document, as bytes in some encoding.
///
/// # Panics
/// If it is neither read nor refused, if more is found than the limits allow, or if what is found depends on the
/// document before or on the other shapes.
pub fn xml(input: &[u8]) {
    let Ok(document) = text_of_bytes(input) else { return };
    assert!(document.len() <= 3 * input.len());
    let shapes: Vec<Arc<Shape>> = SHAPES.iter().map(shape).collect();
    let mut extractor = Extractor::new(&shapes, LIMITS);
    let first = read(&mut extractor, &document, shapes.len());
    check_cells(&extractor, &shapes, first.is_ok());
    // What was there before does not count, nor what it left when it was refused.
    let before: String = document.chars().take(document.chars().count() / 2).collect();
    let _before = extractor.read(&before);
    assert_eq!(read(&mut extractor, &document, shapes.len()), first);
    let Ok(found) = first else { return };
    for (number, shape) in shapes.iter().enumerate() {
        let mut alone = Extractor::new(std::slice::from_ref(shape), LIMITS);
        let rows = read(&mut alone, &document, 1).map(|mut found| found.swap_remove(0));
        assert_eq!(rows.as_ref(), Ok(&found[number]), "shape {number} alone");
    }
}

fn shape((row, columns): &(&str, &[(&str, DataType)])) -> Arc<Shape> {
    let column = |(path, data_type): &(&str, DataType)| {
        ShapeColumn::new(path, data_type.clone(), path).expect("a path")
    };
    Arc::new(Shape::new(row, columns.iter().map(column).collect()).expect("a path"))
}

fn read(extractor: &mut Extractor, document: &str, shapes: usize) -> Result<Found, XmlError> {
    let result = extractor.read(document);
    let found: Found = (0..shapes)
        .map(|shape| {
            let cells = |row| extractor.cells(row).map(|cell| cell.map(str::to_owned)).collect();
            extractor.rows(shape).map(cells).collect()
        })
        .collect();
    let rows: usize = found.iter().map(Vec::len).sum();
    assert!((0..shapes).all(|shape| extractor.row_count(shape) == found[shape].len()));
    if let Err(error) = result {
        assert!(error.at <= document.len() && rows == 0, "{error}");
        return Err(error);
    }
    assert!(document.len() <= LIMITS.bytes);
    assert!(found.iter().all(|rows| rows.len() <= LIMITS.rows), "{rows} rows");
    let lengths = || found.iter().flatten().flatten().flatten().map(String::len);
    assert!(lengths().all(|bytes| bytes <= LIMITS.value_bytes));
    assert_eq!(lengths().sum::<usize>(), extractor.value_bytes());
    Ok(found)
}

/// Either all rows of a document become cells or none, and both ways to ask agree.
fn check_cells(extractor: &Extractor, shapes: &[Arc<Shape>], is_read: bool) {
    for (number, shape) in shapes.iter().enumerate() {
        for missing in [MissingValue::Null, MissingValue::Fail] {
            let mut cells = ShapeRows::new(shape);
            let appended = cells.append(extractor, number, missing);
            let checked = ShapeRows::check(shape, extractor, number, missing);
            assert_eq!(appended.as_ref().err(), checked.as_ref().err());
            let rows = if appended.is_ok() { extractor.row_count(number) } else { 0 };
            assert!(is_read || rows == 0);
            assert!(cells.finish().iter().all(|column| column.len() == rows));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// A new finding is a test once it is there.
    #[test]
    fn what_the_fuzzer_found_keeps_the_promises() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/xml");
        let files: Vec<_> = std::fs::read_dir(folder).expect("a folder").collect();
        assert!(files.len() > 2, "{} files", files.len());
        for file in files {
            let path = file.expect("a file").path();
            let input = std::fs::read(&path).expect("a file");
            let checked = std::panic::catch_unwind(|| super::xml(&input));
            assert!(checked.is_ok(), "{}", path.display());
        }
    }
}
