//! Source tables: columns, key and options.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytesize::ByteSize;

use super::promoted_column::PromotedColumn;

/// A source table as its `sql/tables/*.sql` file declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The name in SQL, lower case unless it was quoted.
    pub name: String,
    pub source: SourceTable,
    /// The declared ones, and after them those that queries read of `extra_fields`.
    pub columns: Vec<Column>,
    /// Positions of the primary key in `columns`; never empty.
    pub key: Vec<usize>,
    pub options: TableOptions,
    pub origin: TableOrigin,
    pub learned: LearnedColumns,
}

/// Who says that there is such a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TableOrigin {
    /// A file under `sql/tables`.
    #[default]
    Declared,
    /// The configuration: its rows are read from a column of the declared table `from`, whose key its first
    /// columns are. It has no events of its own.
    Extracted { from: String },
    /// Its events.
    Discovered {
        /// Without a key the first column is it and holds the `event_id` of the change, so that each change is a
        /// row of its own.
        has_key: bool,
    },
}

/// What events have shown of columns that the table does not declare.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LearnedColumns {
    /// The fields of `extra_fields` that the last columns of the table hold, in their order.
    pub fields: Vec<String>,
    /// Columns that the landing table has for fields of `extra_fields`; of those of one field the last is written,
    /// and all are read.
    pub promoted: Vec<PromotedColumn>,
}

/// `SCHEMA.TABLE` as Debezium's `source` block names it; compared exactly.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceTable {
    pub schema: String,
    pub table: String,
}

impl fmt::Display for SourceTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name in SQL. The event's field is the same name in upper case or exactly this.
    pub name: String,
    /// One of Boolean, Int16, Int32, Int64, Float64, Decimal128, Utf8, Binary, Date32,
    /// Timestamp(Microsecond, None) or Timestamp(Microsecond, "UTC").
    pub data_type: DataType,
    pub nullable: bool,
}

/// The `WITH (...)` options of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableOptions {
    /// Position of the event-time column; without it `source_ts` is the event time.
    pub event_time: Option<usize>,
    /// How far an event time may be ahead of the source's clock and still move the watermark.
    pub future: Duration,
    /// What becomes of an event whose windows are closed.
    pub late: Late,
    /// How long a row that does not change stays in memory; `None`: as long as a result needs rows of the table.
    pub ttl: Option<Duration>,
    pub landing: Landing,
    /// How long superseded changes stay in the landing table; `None`: without limit.
    pub history: Option<Duration>,
    /// What becomes of columns that the table does not declare.
    pub new_columns: NewColumns,
    /// Bounds the rows that share a value, such as the items of one order.
    pub group: Option<GroupBound>,
    /// A row stays in memory as long as the row that it references.
    pub references: Option<Reference>,
    /// How much its rows and their indexes may take in memory; beyond it no more messages are taken.
    pub memory_limit: Option<ByteSize>,
    /// What becomes of a truncate.
    pub truncate: Truncate,
    /// How values of columns are written, where their form alone may not tell; by position.
    pub encodings: Vec<(usize, WrittenAs)>,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            event_time: None,
            // Dates without a zone are up to 14 hours ahead of a clock that goes by UTC.
            future: Duration::from_secs(86_400),
            late: Late::default(),
            ttl: None,
            landing: Landing::default(),
            history: None,
            new_columns: NewColumns::default(),
            group: None,
            references: None,
            memory_limit: None,
            truncate: Truncate::default(),
            encodings: Vec::new(),
        }
    }
}

/// How the values of a column are written in events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrittenAs {
    /// A number in decimal digits.
    Text,
    /// A number's unscaled value, or bytes.
    Base64,
    Base64Url,
    Hex,
    /// Counts since 1970.
    Days,
    Millis,
    Micros,
    Nanos,
}

/// What becomes of an event that says that the source emptied the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Truncate {
    /// Its rows are gone here too.
    #[default]
    Apply,
    /// It is a dead letter, and the rows stay.
    Dlq,
}

/// What becomes of an event all of whose windows over the event time are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Late {
    /// It is applied while the rows of its windows are in memory, after that it is a dead letter.
    #[default]
    Update,
    /// It is a dead letter.
    Dlq,
    /// It is landed, and no result shows it.
    Drop,
}

/// Where the raw changes of a table go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Landing {
    /// Every change, appended to this target table.
    History(String),
    /// The current rows are kept in this target table: one of each key.
    Current(String),
    /// Nowhere; such a table is empty after a restart.
    #[default]
    None,
}

impl Landing {
    /// The target table's name; `None` if it lands nowhere.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::History(name) | Self::Current(name) => Some(name),
            Self::None => None,
        }
    }
}

/// What becomes of columns that a table does not declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NewColumns {
    /// They are kept in `extra_fields`.
    #[default]
    Jsonb,
    /// They get columns in the landing table.
    Alter,
    /// An event that has one is a dead letter.
    Strict,
}

/// At most `limit` rows per value of `column`; beyond it only the newest `keep` stay in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBound {
    pub column: usize,
    pub limit: usize,
    pub keep: usize,
}

/// `column REFERENCES table (its key)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub column: usize,
    pub table: String,
}

/// The columns that every changelog has after the declared ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemColumn {
    /// `c`, `u`, `d` or `r`.
    Op,
    /// When the database made the change (`source.ts_ms` or finer).
    SourceTs,
    /// The declared event-time column, else `source_ts`.
    EventTime,
    /// The offset as text: unique per landed row.
    EventId,
    Topic,
    /// JSON object of the fields that the table does not declare; NULL if there are none.
    ExtraFields,
}

impl SystemColumn {
    /// In the order of the changelog schema.
    pub const ALL: [Self; 6] =
        [Self::Op, Self::SourceTs, Self::EventTime, Self::EventId, Self::Topic, Self::ExtraFields];

    pub fn name(self) -> &'static str {
        match self {
            Self::Op => "op",
            Self::SourceTs => "source_ts",
            Self::EventTime => "event_time",
            Self::EventId => "event_id",
            Self::Topic => "topic",
            Self::ExtraFields => "extra_fields",
        }
    }

    fn field(self, name: String) -> Field {
        let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
        match self {
            Self::Op | Self::EventId | Self::Topic => Field::new(name, DataType::Utf8, false),
            Self::SourceTs | Self::EventTime => Field::new(name, timestamp, true),
            Self::ExtraFields => Field::new(name, DataType::Utf8, true),
        }
    }
}

impl Table {
    /// The columns that the table declares, which are those of its landing table.
    pub fn declared(&self) -> &[Column] {
        &self.columns[..self.columns.len() - self.learned.fields.len()]
    }

    /// The columns after those, whose values are fields of `extra_fields`; each with its field.
    pub fn learned(&self) -> impl Iterator<Item = (&Column, &str)> {
        let columns = &self.columns[self.declared().len()..];
        columns.iter().zip(self.learned.fields.iter().map(String::as_str))
    }

    /// The table that its rows are extracted from.
    pub fn extracted_from(&self) -> Option<&str> {
        match &self.origin {
            TableOrigin::Extracted { from } => Some(from),
            TableOrigin::Declared | TableOrigin::Discovered { .. } => None,
        }
    }

    pub fn is_extracted(&self) -> bool {
        self.extracted_from().is_some()
    }

    pub fn is_discovered(&self) -> bool {
        matches!(self.origin, TableOrigin::Discovered { .. })
    }

    /// Whether the id of each change stands in for a key.
    pub fn has_no_key(&self) -> bool {
        self.origin == TableOrigin::Discovered { has_key: false }
    }

    /// The table with one more column, whose value is a field of `extra_fields`.
    pub fn with_extra(&self, name: &str, field: &str, data_type: DataType) -> Self {
        let mut table = self.clone();
        let name = name.to_owned();
        table.columns.push(Column { name, data_type, nullable: true });
        table.learned.fields.push(field.to_owned());
        table
    }

    /// The columns alone: what a current table has. All are nullable, because a
    /// delete may carry only the key and both schemas are to agree.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.fields()))
    }

    /// The columns, then [`SystemColumn::ALL`]: what a changelog has.
    pub fn changelog_schema(&self) -> SchemaRef {
        let mut fields = self.fields();
        fields.extend(SystemColumn::ALL.map(|c| c.field(self.free_name(c.name()))));
        Arc::new(Schema::new(fields))
    }

    /// Position of a system column in [`Self::changelog_schema`].
    pub fn system_column(&self, column: SystemColumn) -> usize {
        self.columns.len() + column as usize
    }

    /// `name`, or `cdc_` and the name where the table itself declares a column of that name: a
    /// source may well have a column OPERATION or TOPIC of its own.
    pub fn free_name(&self, name: &str) -> String {
        match self.column_index(name) {
            None => name.to_owned(),
            Some(_) => format!("cdc_{name}"),
        }
    }

    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    fn fields(&self) -> Vec<Field> {
        let field = |c: &Column| Field::new(&c.name, c.data_type.clone(), true);
        self.columns.iter().map(field).collect()
    }
}
