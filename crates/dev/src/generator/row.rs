//! The rows of the five tables, and how Debezium writes them as JSON.

use std::io::Write;
use std::sync::Arc;

/// What Debezium writes for a LOB that a change did not touch.
const UNAVAILABLE: &str = "__debezium_unavailable_value";

/// A table of the SALES schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SalesTable {
    Orders,
    OrderItems,
    Customers,
    Products,
    AuditLog,
}

impl SalesTable {
    pub const ALL: [Self; 5] =
        [Self::Orders, Self::OrderItems, Self::Customers, Self::Products, Self::AuditLog];

    pub fn name(self) -> &'static str {
        match self {
            Self::Orders => "ORDERS",
            Self::OrderItems => "ORDER_ITEMS",
            Self::Customers => "CUSTOMERS",
            Self::Products => "PRODUCTS",
            Self::AuditLog => "AUDIT_LOG",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) id: u64,
    pub(super) customer: u64,
    pub(super) date_us: i64,
    pub(super) status: &'static str,
    pub(super) total_cents: u64,
    pub(super) shipping: Document,
    /// A column that not every shop has.
    pub(super) details: Option<Document>,
    pub(super) created_us: i64,
    pub(super) updated_us: i64,
}

/// A column of XML, or that a change did not touch it.
#[derive(Debug, Clone)]
pub(super) enum Document {
    Text(Arc<str>),
    Unchanged,
}

impl Order {
    /// As the redo log has an order whose LOBs were not touched.
    pub(super) fn forget_documents(&mut self) {
        self.shipping = Document::Unchanged;
        self.details = self.details.take().map(|_| Document::Unchanged);
    }
}

#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) id: u64,
    pub(super) order: u64,
    pub(super) product: u64,
    pub(super) quantity: u64,
    pub(super) price_cents: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Customer {
    pub(super) id: u64,
    pub(super) name: Arc<str>,
    pub(super) email: Arc<str>,
    pub(super) tier: &'static str,
    pub(super) region: &'static str,
    pub(super) created_us: i64,
    /// A column that not every shop has.
    pub(super) addresses: Option<Document>,
    /// A column that the table got after it was declared (schema drift).
    pub(super) loyalty_points: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) struct Product {
    pub(super) id: u64,
    pub(super) name: Arc<str>,
    pub(super) category: &'static str,
    pub(super) price_cents: u64,
    pub(super) stock: u64,
    pub(super) is_active: bool,
}

#[derive(Debug, Clone)]
pub(super) struct AuditEntry {
    pub(super) id: u64,
    pub(super) table: &'static str,
    pub(super) operation: &'static str,
    pub(super) record: u64,
    pub(super) changed_by: &'static str,
    pub(super) changed_us: i64,
}

/// A row as a JSON object. Numbers without a fraction are JSON numbers, others text
/// (`decimal.handling.mode=string`), timestamps microseconds since 1970.
pub(super) trait Row {
    const TABLE: SalesTable;
    fn write_json(&self, out: &mut Vec<u8>);
}

/// Writing to memory cannot fail.
macro_rules! put {
    ($out:expr, $($argument:tt)*) => {
        write!($out, $($argument)*).expect("a vector takes every byte")
    };
}
pub(super) use put;

fn put_text(out: &mut Vec<u8>, name: &str, text: &str) {
    put!(out, ",\"{name}\":");
    serde_json::to_writer(&mut *out, text).expect("text is always JSON");
}

fn put_document(out: &mut Vec<u8>, name: &str, document: Option<&Document>) {
    match document {
        Some(Document::Text(text)) => put_text(out, name, text),
        Some(Document::Unchanged) => put_text(out, name, UNAVAILABLE),
        None => {}
    }
}

fn put_cents(out: &mut Vec<u8>, name: &str, cents: u64) {
    put!(out, ",\"{name}\":\"{}.{:02}\"", cents / 100, cents % 100);
}

impl Row for Order {
    const TABLE: SalesTable = SalesTable::Orders;

    fn write_json(&self, out: &mut Vec<u8>) {
        put!(out, "{{\"ORDER_ID\":{},\"CUSTOMER_ID\":{}", self.id, self.customer);
        put!(out, ",\"ORDER_DATE\":{},\"STATUS\":\"{}\"", self.date_us, self.status);
        put_cents(out, "TOTAL_AMOUNT", self.total_cents);
        put_document(out, "SHIPPING_INFO", Some(&self.shipping));
        put_document(out, "ORDER_DETAILS", self.details.as_ref());
        put!(out, ",\"CREATED_AT\":{},\"UPDATED_AT\":{}}}", self.created_us, self.updated_us);
    }
}

impl Row for Item {
    const TABLE: SalesTable = SalesTable::OrderItems;

    fn write_json(&self, out: &mut Vec<u8>) {
        put!(out, "{{\"ITEM_ID\":{},\"ORDER_ID\":{}", self.id, self.order);
        put!(out, ",\"PRODUCT_ID\":{},\"QUANTITY\":{}", self.product, self.quantity);
        put_cents(out, "UNIT_PRICE", self.price_cents);
        put_cents(out, "SUBTOTAL", self.price_cents * self.quantity);
        out.push(b'}');
    }
}

impl Row for Customer {
    const TABLE: SalesTable = SalesTable::Customers;

    fn write_json(&self, out: &mut Vec<u8>) {
        put!(out, "{{\"CUSTOMER_ID\":{}", self.id);
        put_text(out, "NAME", &self.name);
        put_text(out, "EMAIL", &self.email);
        put!(out, ",\"TIER\":\"{}\",\"REGION\":\"{}\"", self.tier, self.region);
        put!(out, ",\"CREATED_AT\":{}", self.created_us);
        put_document(out, "ADDRESSES", self.addresses.as_ref());
        if let Some(points) = self.loyalty_points {
            put!(out, ",\"LOYALTY_POINTS\":{points}");
        }
        out.push(b'}');
    }
}

impl Row for Product {
    const TABLE: SalesTable = SalesTable::Products;

    fn write_json(&self, out: &mut Vec<u8>) {
        put!(out, "{{\"PRODUCT_ID\":{}", self.id);
        put_text(out, "NAME", &self.name);
        put!(out, ",\"CATEGORY\":\"{}\"", self.category);
        put_cents(out, "PRICE", self.price_cents);
        let is_active = u8::from(self.is_active);
        put!(out, ",\"STOCK_QTY\":{},\"IS_ACTIVE\":{is_active}}}", self.stock);
    }
}

impl Row for AuditEntry {
    const TABLE: SalesTable = SalesTable::AuditLog;

    fn write_json(&self, out: &mut Vec<u8>) {
        put!(out, "{{\"LOG_ID\":{},\"TABLE_NAME\":\"{}\"", self.id, self.table);
        put!(out, ",\"OPERATION\":\"{}\",\"RECORD_ID\":{}", self.operation, self.record);
        put!(out, ",\"CHANGED_BY\":\"{}\",\"CHANGED_AT\":{}}}", self.changed_by, self.changed_us);
    }
}

/// The columns of a table with their Kafka Connect types, for the envelope's schema section.
pub(super) fn columns(table: SalesTable) -> &'static [(&'static str, Kind)] {
    use Kind::{Integer, Text, Timestamp};
    match table {
        SalesTable::Orders => &[
            ("ORDER_ID", Integer),
            ("CUSTOMER_ID", Integer),
            ("ORDER_DATE", Timestamp),
            ("STATUS", Text),
            ("TOTAL_AMOUNT", Text),
            ("SHIPPING_INFO", Text),
            ("CREATED_AT", Timestamp),
            ("UPDATED_AT", Timestamp),
        ],
        SalesTable::OrderItems => &[
            ("ITEM_ID", Integer),
            ("ORDER_ID", Integer),
            ("PRODUCT_ID", Integer),
            ("QUANTITY", Integer),
            ("UNIT_PRICE", Text),
            ("SUBTOTAL", Text),
        ],
        SalesTable::Customers => &[
            ("CUSTOMER_ID", Integer),
            ("NAME", Text),
            ("EMAIL", Text),
            ("TIER", Text),
            ("REGION", Text),
            ("CREATED_AT", Timestamp),
        ],
        SalesTable::Products => &[
            ("PRODUCT_ID", Integer),
            ("NAME", Text),
            ("CATEGORY", Text),
            ("PRICE", Text),
            ("STOCK_QTY", Integer),
            ("IS_ACTIVE", Integer),
        ],
        SalesTable::AuditLog => &[
            ("LOG_ID", Integer),
            ("TABLE_NAME", Text),
            ("OPERATION", Text),
            ("RECORD_ID", Integer),
            ("CHANGED_BY", Text),
            ("CHANGED_AT", Timestamp),
        ],
    }
}

/// The columns of XML that not every shop has.
pub(super) fn documents(table: SalesTable) -> &'static [(&'static str, Kind)] {
    match table {
        SalesTable::Orders => &[("ORDER_DETAILS", Kind::Text)],
        SalesTable::Customers => &[("ADDRESSES", Kind::Text)],
        SalesTable::OrderItems | SalesTable::Products | SalesTable::AuditLog => &[],
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Integer,
    Text,
    Timestamp,
}
