//! `sql/tables/*.sql`: one `CREATE TABLE` with typed columns, a key and options, per source table.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::sql::sqlparser::ast::{
    self, ColumnDef, ColumnOption, CreateTable, ExactNumberInfo, Ident, Statement, TableConstraint,
    TimezoneInfo,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::location::{parser_error, span_start};
use super::options::parse_options;
use super::sql_file::{SqlError, SqlFile};
use crate::changelog::{Column, Reference, Table, TableOptions};

/// Reads all table files; every problem of every file is reported.
///
/// # Errors
/// What is wrong, with file, line and column.
pub fn parse_tables(files: &[SqlFile]) -> Result<Vec<Arc<Table>>, Vec<SqlError>> {
    let mut tables: Vec<Arc<Table>> = Vec::new();
    let mut errors = Vec::new();
    for file in files {
        match parse_table(file) {
            Ok(table) => {
                let twin = tables.iter().find(|t| t.name == table.name || t.source == table.source);
                match twin {
                    Some(twin) => errors.push(file.error(
                        None,
                        format!("table {} ({}) is declared twice", twin.name, twin.source),
                    )),
                    None => tables.push(Arc::new(table)),
                }
            }
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(tables) } else { Err(errors) }
}

fn parse_table(file: &SqlFile) -> Result<Table, SqlError> {
    let statements = Parser::parse_sql(&PostgreSqlDialect {}, &file.text)
        .map_err(|error| parser_error(file, &error.to_string()))?;
    let [Statement::CreateTable(create)] = statements.as_slice() else {
        return Err(file.error(None, "must hold exactly one CREATE TABLE statement"));
    };
    let name = match create.name.0.as_slice() {
        [part] => part.as_ident().map(folded),
        _ => None,
    };
    let name = name.ok_or_else(|| file.error(None, "the table's name must be one identifier"))?;
    let columns = parse_columns(file, create)?;
    let key = parse_key(file, create, &columns)?;
    let references = parse_reference(file, create, &columns)?;
    let (source, options) = parse_options(file, &name, create, &columns)?;
    Ok(Table { name, source, columns, key, options: TableOptions { references, ..options } })
}

/// Unquoted identifiers are lower case, as in Postgres.
fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

fn parse_columns(file: &SqlFile, create: &CreateTable) -> Result<Vec<Column>, SqlError> {
    let mut columns: Vec<Column> = Vec::with_capacity(create.columns.len());
    for definition in &create.columns {
        let name = folded(&definition.name);
        let at = span_start(definition.name.span);
        if columns.iter().any(|column| column.name == name) {
            return Err(file.error(at, format!("column {name} is declared twice")));
        }
        let data_type = arrow_type(&definition.data_type)
            .map_err(|problem| file.error(at, format!("column {name}: {problem}")))?;
        let nullable = !definition
            .options
            .iter()
            .any(|o| matches!(o.option, ColumnOption::NotNull | ColumnOption::PrimaryKey(_)));
        columns.push(Column { name, data_type, nullable });
    }
    Ok(columns)
}

fn arrow_type(sql: &ast::DataType) -> Result<DataType, String> {
    use ast::DataType as Sql;
    let timestamp =
        |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Arc::from));
    match sql {
        Sql::BigInt(_) | Sql::Int8(_) => Ok(DataType::Int64),
        Sql::Integer(_) | Sql::Int(_) | Sql::Int4(_) => Ok(DataType::Int32),
        Sql::SmallInt(_) | Sql::Int2(_) => Ok(DataType::Int16),
        Sql::Varchar(_)
        | Sql::CharacterVarying(_)
        | Sql::CharVarying(_)
        | Sql::Nvarchar(_)
        | Sql::Char(_)
        | Sql::Character(_)
        | Sql::Text
        | Sql::String(_)
        | Sql::Clob(_) => Ok(DataType::Utf8),
        Sql::Boolean | Sql::Bool => Ok(DataType::Boolean),
        Sql::Double(_) | Sql::DoublePrecision | Sql::Float(_) | Sql::Real => Ok(DataType::Float64),
        Sql::Decimal(info) | Sql::Numeric(info) | Sql::Dec(info) => decimal(info),
        Sql::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone)
        | Sql::TimestampNtz(_)
        | Sql::Datetime(_) => Ok(timestamp(None)),
        Sql::Timestamp(_, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
            Ok(timestamp(Some("UTC")))
        }
        Sql::Date => Ok(DataType::Date32),
        Sql::Bytea | Sql::Blob(_) | Sql::Varbinary(_) | Sql::Binary(_) => Ok(DataType::Binary),
        other => Err(format!(
            "type {other} is not one of BIGINT, INTEGER, SMALLINT, VARCHAR, BOOLEAN, DOUBLE, \
             DECIMAL(p,s), TIMESTAMP, TIMESTAMPTZ, DATE, BYTEA"
        )),
    }
}

fn decimal(info: &ExactNumberInfo) -> Result<DataType, String> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => {
            return Err("DECIMAL needs a precision, as in DECIMAL(15,2)".into());
        }
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(p @ 1..=38), Ok(s)) if s >= 0 && s as u8 <= p => Ok(DataType::Decimal128(p, s)),
        _ => Err(format!("DECIMAL({precision},{scale}) is outside of 38 digits")),
    }
}

fn parse_key(
    file: &SqlFile,
    create: &CreateTable,
    columns: &[Column],
) -> Result<Vec<usize>, SqlError> {
    let is_key = |c: &ColumnDef| {
        c.options.iter().any(|option| matches!(option.option, ColumnOption::PrimaryKey(_)))
    };
    let mut key: Vec<usize> =
        create.columns.iter().enumerate().filter(|(_, c)| is_key(c)).map(|(at, _)| at).collect();
    for constraint in &create.constraints {
        let TableConstraint::PrimaryKey(primary) = constraint else { continue };
        for column in &primary.columns {
            let name = column.column.expr.to_string().trim_matches('"').to_lowercase();
            let at = columns.iter().position(|c| c.name.to_lowercase() == name);
            key.push(
                at.ok_or_else(|| file.error(None, format!("key column {name} is not declared")))?,
            );
        }
    }
    if key.is_empty() {
        return Err(file.error(None, "has no PRIMARY KEY: without one there is no current row"));
    }
    Ok(key)
}

fn parse_reference(
    file: &SqlFile,
    create: &CreateTable,
    columns: &[Column],
) -> Result<Option<Reference>, SqlError> {
    let mut found = Vec::new();
    for (at, definition) in create.columns.iter().enumerate() {
        for option in &definition.options {
            if let ColumnOption::ForeignKey(foreign) = &option.option {
                let table = foreign.foreign_table.0.last().and_then(|part| part.as_ident());
                found.extend(table.map(|t| Reference { column: at, table: folded(t) }));
            }
        }
    }
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        [_, second, ..] => Err(file.error(
            None,
            format!(
                "{} is a second REFERENCES; a row can live by one other",
                columns[second.column].name
            ),
        )),
    }
}
