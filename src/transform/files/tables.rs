//! `sql/tables/*.sql`: one `CREATE TABLE` with typed columns, a key and options, per source table.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::sql::sqlparser::ast::{
    self, ColumnDef, ColumnOption, CreateTable, ExactNumberInfo, Ident, Statement, TableConstraint,
    TimezoneInfo,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::location::{parser_error, span_start};
use super::options::parse_options;
use super::sql_file::{SqlError, SqlFile};
use crate::model::{Column, LearnedColumns, Reference, Table, TableOptions, TableOrigin};

/// Reads all table files; every problem of every file is reported.
///
/// # Errors
/// What is wrong, with file, line and column.
pub fn parse_tables(files: &[SqlFile]) -> Result<Vec<Arc<Table>>, Vec<SqlError>> {
    let mut tables: Vec<Arc<Table>> = Vec::new();
    let mut errors = Vec::new();
    for file in files {
        match parse_table(file).and_then(|table| check_unique(file, table, &tables)) {
            Ok(table) => tables.push(Arc::new(table)),
            Err(error) => errors.push(error),
        }
    }
    // While a file is wrong, a table that is missing may be in it.
    if errors.is_empty() {
        let checked = files.iter().zip(&tables).map(|(file, t)| check_reference(file, t, &tables));
        errors.extend(checked.filter_map(Result::err));
    }
    if errors.is_empty() { Ok(tables) } else { Err(errors) }
}

fn check_unique(file: &SqlFile, table: Table, others: &[Arc<Table>]) -> Result<Table, SqlError> {
    let is_twin = |t: &&Arc<Table>| t.name == table.name || t.source == table.source;
    if let Some(twin) = others.iter().find(is_twin) {
        let message = format!("table {} ({}) is declared twice", twin.name, twin.source);
        return Err(file.error(None, message));
    }
    if let Some(other) = others.iter().find(|t| changes_names_clash(t, &table)) {
        let message =
            format!("the names {} and {} clash: x_changes is taken for x", other.name, table.name);
        return Err(file.error(None, message));
    }
    if let Some(target) = table.options.landing.target()
        && let Some(other) = others.iter().find(|t| t.options.landing.target() == Some(target))
    {
        let message = format!("lands in {target}, where the changes of {} land", other.name);
        return Err(file.error(None, message));
    }
    Ok(table)
}

/// The name under which SQL sees the epoch's changelog of a table.
pub(crate) fn changes_name(table: &str) -> String {
    format!("{table}_changes")
}

fn changes_names_clash(one: &Table, other: &Table) -> bool {
    changes_name(&one.name) == other.name || changes_name(&other.name) == one.name
}

/// The referenced table is there, and the column can hold its key.
fn check_reference(file: &SqlFile, table: &Table, all: &[Arc<Table>]) -> Result<(), SqlError> {
    let Some(reference) = &table.options.references else { return Ok(()) };
    let (column, parent) = (&table.columns[reference.column], &reference.table);
    let problem = |text: &str| {
        file.error(None, format!("column {} REFERENCES {parent}, which {text}", column.name))
    };
    let referenced = all
        .iter()
        .find(|t| t.name == *parent && t.name != table.name)
        .ok_or_else(|| problem("is not another declared table"))?;
    match referenced.key.as_slice() {
        [key] if referenced.columns[*key].data_type == column.data_type => Ok(()),
        [_] => Err(problem("has a key of another type")),
        _ => Err(problem("has a key of several columns")),
    }
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
    }
    .ok_or_else(|| file.error(None, "the table's name must be one identifier"))?;
    let mut columns = parse_columns(file, create)?;
    refuse_other_constraints(file, create)?;
    let key = parse_key(file, create, &columns)?;
    for at in &key {
        columns[*at].nullable = false;
    }
    let references = parse_reference(file, create, &columns)?;
    let (source, options) = parse_options(file, &name, create, &columns)?;
    if let Some(target) = options.landing.target() {
        check_landing_names(file, target, &columns)?;
    }
    let options = TableOptions { references, ..options };
    let (origin, learned) = (TableOrigin::Declared, LearnedColumns::default());
    Ok(Table { name, source, columns, key, options, origin, learned })
}

/// What lands in PostgreSQL needs names that PostgreSQL can hold.
fn check_landing_names(file: &SqlFile, target: &str, columns: &[Column]) -> Result<(), SqlError> {
    file.check_postgres_name("the landing table", target)?;
    for column in columns {
        file.check_postgres_name("column", &column.name).map_err(|error| {
            let advice = "leave the column out, and it is kept in extra_fields";
            SqlError { message: format!("{}: {advice}", error.message), ..error }
        })?;
    }
    Ok(())
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
        let nullable = !definition.options.iter().any(|o| o.option == ColumnOption::NotNull);
        columns.push(Column { name, data_type, nullable });
    }
    Ok(columns)
}

/// The type that columns of this SQL type have.
///
/// # Errors
/// If there is no such type.
pub fn parse_type(text: &str) -> Result<DataType, String> {
    let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).and_then(|mut parser| {
        let data_type = parser.parse_data_type()?;
        parser.expect_token(&Token::EOF)?;
        Ok(data_type)
    });
    match parsed {
        Ok(data_type) => arrow_type(&data_type),
        Err(_) => Err(format!("'{text}' is no type, as BIGINT or DECIMAL(10,2) is")),
    }
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
        other => Err(match of_oracle(other) {
            Some(instead) => {
                format!("type {other} is Oracle's: declare {instead} (docs/VALUES.md)")
            }
            None => format!("type {other} is not one of {TYPES}"),
        }),
    }
}

/// Each type with its other names.
const TYPES: &str = "BIGINT (INT8), INTEGER (INT, INT4), SMALLINT (INT2), VARCHAR (TEXT, CHAR, NVARCHAR, STRING, CLOB), \
    BOOLEAN (BOOL), DOUBLE (DOUBLE PRECISION, FLOAT, REAL), DECIMAL(p,s) (NUMERIC, DEC), TIMESTAMP (DATETIME), \
    TIMESTAMPTZ (TIMESTAMP WITH TIME ZONE), DATE, BYTEA (BLOB, BINARY, VARBINARY)";

/// What to declare for a type that only Oracle has.
fn of_oracle(sql: &ast::DataType) -> Option<String> {
    let text = sql.to_string().to_uppercase();
    let (name, size) = text.split_once('(').unwrap_or((&text, ""));
    let size = size.trim_end_matches(')').replace(' ', "");
    let instead = match name.trim() {
        "NUMBER" if size.is_empty() => "DECIMAL(38,10), or BIGINT for whole numbers".to_owned(),
        "NUMBER" => format!("DECIMAL({size})"),
        "VARCHAR2" | "NVARCHAR2" | "NCHAR" | "NCLOB" | "LONG" | "ROWID" | "UROWID" | "XMLTYPE" => {
            "VARCHAR".to_owned()
        }
        "RAW" | "LONG RAW" | "BFILE" => "BYTEA".to_owned(),
        "BINARY_FLOAT" | "BINARY_DOUBLE" => "DOUBLE".to_owned(),
        _ => return None,
    };
    Some(instead)
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

/// What would be ignored is refused.
fn refuse_other_constraints(file: &SqlFile, create: &CreateTable) -> Result<(), SqlError> {
    let refused = |at, text: String| {
        Err(file.error(at, format!("{text} has no effect on a stream of changes: remove it")))
    };
    for definition in &create.columns {
        for option in &definition.options {
            match &option.option {
                ColumnOption::Null
                | ColumnOption::NotNull
                | ColumnOption::PrimaryKey(_)
                | ColumnOption::ForeignKey(_) => {}
                other => return refused(span_start(definition.name.span), other.to_string()),
            }
        }
    }
    for constraint in &create.constraints {
        match constraint {
            TableConstraint::PrimaryKey(_) | TableConstraint::ForeignKey(_) => {}
            other => return refused(None, other.to_string()),
        }
    }
    Ok(())
}

fn parse_key(
    file: &SqlFile,
    create: &CreateTable,
    columns: &[Column],
) -> Result<Vec<usize>, SqlError> {
    let is_key = |c: &ColumnDef| {
        c.options.iter().any(|option| matches!(option.option, ColumnOption::PrimaryKey(_)))
    };
    let of_columns = create.columns.iter().enumerate().filter(|(_, c)| is_key(c));
    let mut keys: Vec<Vec<usize>> = of_columns.map(|(at, _)| vec![at]).collect();
    for constraint in &create.constraints {
        let TableConstraint::PrimaryKey(primary) = constraint else { continue };
        let names = primary.columns.iter().map(|column| match &column.column.expr {
            ast::Expr::Identifier(ident) => position(file, ident, columns),
            other => Err(file.error(None, format!("key column {other} is not a name"))),
        });
        keys.push(names.collect::<Result<_, _>>()?);
    }
    match keys.as_slice() {
        [] => Err(file.error(None, "has no PRIMARY KEY: without one there is no current row")),
        [key] => match key.iter().enumerate().find(|(at, c)| key[..*at].contains(c)) {
            None => Ok(key.clone()),
            Some((_, twice)) => {
                let name = &columns[*twice].name;
                Err(file.error(None, format!("column {name} is twice in the PRIMARY KEY")))
            }
        },
        _ => Err(file.error(
            None,
            "has two PRIMARY KEYs: write one of several columns as PRIMARY KEY (a, b)",
        )),
    }
}

/// Where a named column is.
fn position(file: &SqlFile, ident: &Ident, columns: &[Column]) -> Result<usize, SqlError> {
    let name = folded(ident);
    columns
        .iter()
        .position(|column| column.name == name)
        .ok_or_else(|| file.error(span_start(ident.span), format!("column {name} is not declared")))
}

fn parse_reference(
    file: &SqlFile,
    create: &CreateTable,
    columns: &[Column],
) -> Result<Option<Reference>, SqlError> {
    let mut found = Vec::new();
    let parent = |foreign: &ast::ForeignKeyConstraint| {
        foreign.foreign_table.0.last().and_then(|part| part.as_ident()).map(folded)
    };
    for (column, definition) in create.columns.iter().enumerate() {
        for option in &definition.options {
            if let ColumnOption::ForeignKey(foreign) = &option.option {
                found.extend(parent(foreign).map(|table| Reference { column, table }));
            }
        }
    }
    for constraint in &create.constraints {
        let TableConstraint::ForeignKey(foreign) = constraint else { continue };
        let [ident] = foreign.columns.as_slice() else {
            return Err(file.error(None, "a REFERENCES of several columns is not supported"));
        };
        let column = position(file, ident, columns)?;
        found.extend(parent(foreign).map(|table| Reference { column, table }));
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
