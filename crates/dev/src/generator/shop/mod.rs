//! The shop: its rows, and the changes that it makes to them.

mod documents;
mod live;
mod shipping;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::generator::config::Config;
use crate::generator::envelope::{Change, EnvelopeWriter, topic};
use crate::generator::event::{Event, Fault, Operation};
use crate::generator::mix::OperationMix;
use crate::generator::row::{
    AuditEntry, Customer, Document, Item, Order, Product, Row, SalesTable,
};
use documents::{addresses, order_details};
use live::Live;
use shipping::{broken_shipping_info, shipping_info};

const FIRST_CUSTOMERS: u64 = 100;
const FIRST_PRODUCTS: u64 = 50;
/// Orders that may still change; their items with them.
const LIVE_ORDERS: usize = 50_000;
const LIVE_ITEMS: usize = 100_000;
const LIVE_OTHERS: usize = 100_000;
/// Orders above 10,000, for which the shipped alert is.
const HIGH_VALUE_SHARE: f64 = 0.02;
const HIGH_VALUE_CENTS: std::ops::Range<u64> = 1_000_001..2_500_000;
/// Updates of products that change the key, which Oracle sees as delete and create.
const KEY_CHANGE_SHARE: f64 = 0.002;
/// Updates that change the XML too.
const ADDRESS_CHANGE_SHARE: f64 = 0.2;

const STATUSES: [&str; 5] = ["PENDING", "CONFIRMED", "SHIPPED", "DELIVERED", "CANCELLED"];
const TIERS: [&str; 3] = ["GOLD", "SILVER", "BRONZE"];
const REGIONS: [&str; 4] = ["EMEA", "APAC", "NA", "LATAM"];
const CATEGORIES: [&str; 5] = ["BOOKS", "GAMES", "GARDEN", "KITCHEN", "OFFICE"];
const FIRST_NAMES: [&str; 8] =
    ["Ada", "Björn", "Chloé", "Dmitri", "Eva", "Fatima", "Goran", "O'Hara"];
const LAST_NAMES: [&str; 8] =
    ["Abe", "Brontë", "Castillo", "Dürer", "Eriksson", "Fischer", "García", "\"Hal\" Ito"];
/// 2099-01-01, which no watermark may believe.
const FAR_FUTURE_US: i64 = 4_070_908_800_000_000;
const USERS: [&str; 3] = ["SALES_APP", "BATCH", "DBA"];

/// The shop whose changes the generator tells: rows, and the events that wait to be told.
pub(super) struct Shop {
    rng: StdRng,
    config: Config,
    writer: EnvelopeWriter,
    orders: Live<(Order, Vec<u64>)>,
    items: Live<Item>,
    customers: Live<Customer>,
    products: Live<Product>,
    next_ids: [u64; 5],
    transaction: u64,
    /// By the time of the first event, unless it is given.
    first_scn: Option<u64>,
    /// Items that came with their orders, to be taken off those made for their own sake.
    first_items: u64,
    /// Item deletes that came with their orders, likewise.
    cascaded_deletes: u64,
    waiting: VecDeque<Event>,
    now_us: i64,
}

impl Shop {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            rng: StdRng::seed_from_u64(config.seed),
            config: config.clone(),
            writer: EnvelopeWriter::new(config.with_schema, config.documents),
            orders: Live::new(LIVE_ORDERS),
            items: Live::new(LIVE_ITEMS),
            customers: Live::new(LIVE_OTHERS),
            products: Live::new(LIVE_OTHERS),
            next_ids: [1; 5],
            transaction: 0,
            first_scn: config.first_scn,
            first_items: 0,
            cascaded_deletes: 0,
            waiting: VecDeque::new(),
            now_us: 0,
        }
    }

    /// The next event as of `now_us`; the events of one change come one after the other.
    pub(super) fn next_event(&mut self, now_us: i64) -> Event {
        self.now_us = now_us;
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return event;
            }
            self.transaction += 1;
            self.change_something();
        }
    }

    fn change_something(&mut self) {
        if self.transaction <= FIRST_CUSTOMERS {
            return self.add_customer(Operation::Read);
        }
        if self.transaction <= FIRST_CUSTOMERS + FIRST_PRODUCTS {
            return self.add_product(Operation::Read);
        }
        if self.config.faults > 0.0 && self.rng.random_bool(self.config.faults) {
            return self.make_fault();
        }
        match self.config.tables.pick(&mut self.rng) {
            SalesTable::Orders => self.change_orders(),
            SalesTable::OrderItems => self.change_items(),
            SalesTable::Customers => self.change_customers(),
            SalesTable::Products => self.change_products(),
            SalesTable::AuditLog => self.add_audit_entry(),
        }
    }

    /// What the next change is, where a table has `usual` ones.
    fn operation(&mut self, usual: OperationMix) -> Operation {
        self.config.operations.unwrap_or(usual).pick(&mut self.rng)
    }

    fn change_orders(&mut self) {
        let operation = self.operation(OperationMix::new(70, 25, 5));
        let picked = self.orders.pick(&mut self.rng);
        match (operation, picked) {
            (Operation::Update, Some(id)) => self.update_order(id),
            (Operation::Delete, Some(id)) => self.delete_order(id),
            _ => {
                let shipping = shipping_info(&mut self.rng, self.config.xml_items);
                self.add_order(Document::Text(shipping), None);
            }
        }
    }

    fn add_order(&mut self, shipping: Document, fault: Option<Fault>) {
        let Some(customer) = self.customers.pick(&mut self.rng) else {
            return self.add_customer(Operation::Create);
        };
        let (id, now_us) = (self.next_id(SalesTable::Orders), self.now_us);
        let order = Order {
            id,
            customer,
            date_us: self.order_date_us(),
            status: STATUSES[0],
            total_cents: self.total_cents(),
            shipping,
            details: self.document(order_details),
            created_us: now_us,
            updated_us: now_us,
        };
        self.tell(Operation::Create, id, None, Some(&order), fault);
        if let Some((_, items)) = self.orders.insert(id, (order, Vec::new())) {
            for item in items {
                self.items.remove(item);
            }
        }
        self.add_item_of(id);
        self.first_items += 1;
    }

    /// Most orders are small; a few are large enough for an alert.
    fn total_cents(&mut self) -> u64 {
        if self.rng.random_bool(HIGH_VALUE_SHARE) {
            self.rng.random_range(HIGH_VALUE_CENTS)
        } else {
            self.rng.random_range(500..500_000)
        }
    }

    /// When the business says that the order was made: now, some time ago, or in a future that nobody sees.
    fn order_date_us(&mut self) -> i64 {
        let chance: f64 = self.rng.random();
        if chance < self.config.late {
            self.now_us - self.rng.random_range(10_000_000..240_000_000)
        } else if chance < self.config.late + self.config.out_of_order {
            self.now_us - self.rng.random_range(100_000..9_000_000)
        } else if chance >= 1.0 - self.config.misdated {
            FAR_FUTURE_US
        } else {
            self.now_us
        }
    }

    fn update_order(&mut self, id: u64) {
        let changes_address = self.rng.random_bool(ADDRESS_CHANGE_SHARE);
        let address = changes_address.then(|| shipping_info(&mut self.rng, self.config.xml_items));
        let details = if changes_address { self.document(order_details) } else { None };
        let status = STATUSES[self.rng.random_range(1..STATUSES.len())];
        let total = self.total_cents();
        let Some((order, _)) = self.orders.get_mut(id) else { return };
        let mut before = order.clone();
        order.status = status;
        order.total_cents = total;
        order.updated_us = self.now_us;
        let was_changed = address.is_some();
        if let Some(address) = address {
            order.shipping = Document::Text(address);
            order.details = details.or(order.details.take());
        }
        let mut after = order.clone();
        if self.config.unchanged_lobs {
            // The redo log has no old value of a LOB, and no new one if it was not touched.
            before.forget_documents();
            if !was_changed {
                after.forget_documents();
            }
        }
        self.tell(Operation::Update, id, Some(&before), Some(&after), None);
    }

    /// Deletes the items first, as a foreign key demands.
    fn delete_order(&mut self, id: u64) {
        let Some((mut order, items)) = self.orders.remove(id) else { return };
        for item in items {
            if let Some(item) = self.items.remove(item) {
                self.cascaded_deletes += 1;
                self.tell_delete(id, &item);
            }
        }
        if self.config.unchanged_lobs {
            order.forget_documents();
        }
        self.tell_delete(id, &order);
    }

    fn change_items(&mut self) {
        let operation = self.operation(OperationMix::new(80, 15, 5));
        if operation == Operation::Delete && self.cascaded_deletes > 0 {
            self.cascaded_deletes -= 1;
            return;
        }
        if operation == Operation::Create && self.first_items > 0 {
            self.first_items -= 1;
            return;
        }
        let picked = self.items.pick(&mut self.rng);
        match (operation, picked) {
            (Operation::Update, Some(id)) => self.update_item(id),
            (Operation::Delete, Some(id)) => self.delete_item(id),
            _ => self.add_item(),
        }
    }

    fn add_item(&mut self) {
        match self.orders.pick(&mut self.rng) {
            Some(order) => self.add_item_of(order),
            None => {
                let shipping = shipping_info(&mut self.rng, self.config.xml_items);
                self.add_order(Document::Text(shipping), None);
            }
        }
    }

    fn add_item_of(&mut self, order: u64) {
        let Some(product) = self.products.pick(&mut self.rng) else {
            return self.add_product(Operation::Create);
        };
        let price_cents = self.products.get_mut(product).map_or(100, |product| product.price_cents);
        let id = self.next_id(SalesTable::OrderItems);
        let quantity = self.rng.random_range(1..20);
        let item = Item { id, order, product, quantity, price_cents };
        self.tell(Operation::Create, order, None, Some(&item), None);
        self.items.insert(id, item);
        if let Some((_, items)) = self.orders.get_mut(order) {
            items.push(id);
        }
    }

    fn update_item(&mut self, id: u64) {
        let quantity = self.rng.random_range(1..20);
        let Some(item) = self.items.get_mut(id) else { return };
        let before = item.clone();
        item.quantity = quantity;
        let after = item.clone();
        self.tell(Operation::Update, after.order, Some(&before), Some(&after), None);
    }

    fn delete_item(&mut self, id: u64) {
        let Some(item) = self.items.remove(id) else { return };
        if let Some((_, items)) = self.orders.get_mut(item.order) {
            items.retain(|other| *other != id);
        }
        self.tell_delete(item.order, &item);
    }

    fn change_customers(&mut self) {
        let operation = self.operation(OperationMix::new(20, 75, 5));
        let picked = self.customers.pick(&mut self.rng);
        match (operation, picked) {
            (Operation::Update, Some(id)) => self.update_customer(id, None),
            (Operation::Delete, Some(id)) if self.customers.len() as u64 > FIRST_CUSTOMERS / 2 => {
                if let Some(customer) = self.customers.remove(id) {
                    self.tell_delete(id, &customer);
                }
            }
            _ => self.add_customer(Operation::Create),
        }
    }

    fn add_customer(&mut self, operation: Operation) {
        let id = self.next_id(SalesTable::Customers);
        let first = FIRST_NAMES[self.rng.random_range(0..FIRST_NAMES.len())];
        let last = LAST_NAMES[self.rng.random_range(0..LAST_NAMES.len())];
        let customer = Customer {
            id,
            name: format!("{first} {last}").into(),
            email: format!("customer{id}@example.com").into(),
            tier: TIERS[self.rng.random_range(0..TIERS.len())],
            region: REGIONS[self.rng.random_range(0..REGIONS.len())],
            created_us: self.now_us,
            addresses: self.document(addresses),
            loyalty_points: None,
        };
        self.tell(operation, id, None, Some(&customer), None);
        self.customers.insert(id, customer);
    }

    fn update_customer(&mut self, id: u64, loyalty_points: Option<u64>) {
        let tier = TIERS[self.rng.random_range(0..TIERS.len())];
        let region = REGIONS[self.rng.random_range(0..REGIONS.len())];
        let moves = self.config.documents && self.rng.random_bool(ADDRESS_CHANGE_SHARE);
        let addresses = if moves { self.document(addresses) } else { None };
        let Some(customer) = self.customers.get_mut(id) else { return };
        let mut before = customer.clone();
        customer.tier = tier;
        customer.region = region;
        customer.loyalty_points = loyalty_points.or(customer.loyalty_points);
        customer.addresses = addresses.or(customer.addresses.take());
        let mut after = customer.clone();
        if self.config.unchanged_lobs && self.config.documents {
            before.addresses = Some(Document::Unchanged);
            if !moves {
                after.addresses = Some(Document::Unchanged);
            }
        }
        let fault = loyalty_points.map(|_| Fault::ExtraColumn);
        self.tell(Operation::Update, id, Some(&before), Some(&after), fault);
    }

    fn change_products(&mut self) {
        let operation = self.operation(OperationMix::new(10, 85, 5));
        let picked = self.products.pick(&mut self.rng);
        match (operation, picked) {
            (Operation::Update, Some(id)) if self.rng.random_bool(KEY_CHANGE_SHARE) => {
                self.change_product_key(id);
            }
            (Operation::Update, Some(id)) => self.update_product(id),
            (Operation::Delete, Some(id)) if self.products.len() as u64 > FIRST_PRODUCTS / 2 => {
                if let Some(product) = self.products.remove(id) {
                    self.tell_delete(id, &product);
                }
            }
            _ => self.add_product(Operation::Create),
        }
    }

    fn add_product(&mut self, operation: Operation) {
        let id = self.next_id(SalesTable::Products);
        let category = CATEGORIES[self.rng.random_range(0..CATEGORIES.len())];
        let product = Product {
            id,
            name: format!("Product {id}").into(),
            category,
            price_cents: self.rng.random_range(100..100_000),
            stock: self.rng.random_range(0..10_000),
            is_active: true,
        };
        self.tell(operation, id, None, Some(&product), None);
        self.products.insert(id, product);
    }

    fn update_product(&mut self, id: u64) {
        let (stock, is_active) = (self.rng.random_range(0..10_000), self.rng.random_bool(0.95));
        let price = self.rng.random_range(100..100_000);
        let Some(product) = self.products.get_mut(id) else { return };
        let before = product.clone();
        product.stock = stock;
        product.price_cents = price;
        product.is_active = is_active;
        let after = product.clone();
        self.tell(Operation::Update, id, Some(&before), Some(&after), None);
    }

    /// Delete, tombstone, create: one transaction.
    fn change_product_key(&mut self, id: u64) {
        let Some(before) = self.products.remove(id) else { return };
        let after = Product { id: self.next_id(SalesTable::Products), ..before.clone() };
        self.tell_delete(id, &before);
        self.tell(Operation::Create, after.id, None, Some(&after), None);
        self.products.insert(after.id, after);
    }

    fn add_audit_entry(&mut self) {
        let id = self.next_id(SalesTable::AuditLog);
        let table = SalesTable::ALL[self.rng.random_range(0..4)];
        let entry = AuditEntry {
            id,
            table: table.name(),
            operation: ["INSERT", "UPDATE", "DELETE"][self.rng.random_range(0..3)],
            record: self.rng.random_range(1..=self.next_ids[table as usize]),
            changed_by: USERS[self.rng.random_range(0..USERS.len())],
            changed_us: self.now_us,
        };
        self.tell(Operation::Create, id, None, Some(&entry), None);
    }

    fn make_fault(&mut self) {
        match self.rng.random_range(0..3) {
            0 => {
                let shipping = broken_shipping_info(&mut self.rng, self.config.xml_items);
                self.add_order(Document::Text(shipping), Some(Fault::BrokenXml));
            }
            1 => {
                let points = self.rng.random_range(0..5_000);
                if let Some(id) = self.customers.pick(&mut self.rng) {
                    self.update_customer(id, Some(points));
                }
            }
            _ => self.tell_malformed(),
        }
    }

    /// An event that breaks off. It is of a row that exists nowhere else, so that nothing is missing
    /// when it goes to the dead letters.
    fn tell_malformed(&mut self) {
        let id = self.next_id(SalesTable::AuditLog);
        let entry = AuditEntry {
            id,
            table: SalesTable::Orders.name(),
            operation: "UPDATE",
            record: id,
            changed_by: USERS[0],
            changed_us: self.now_us,
        };
        self.tell(Operation::Create, id, None, Some(&entry), Some(Fault::MalformedJson));
        if let Some(event) = self.waiting.back_mut() {
            event.payload.truncate(event.payload.len() / 2);
        }
    }

    /// A document of a column that not every shop has.
    fn document(&mut self, make: fn(&mut StdRng) -> Arc<str>) -> Option<Document> {
        self.config.documents.then(|| Document::Text(make(&mut self.rng)))
    }

    fn next_id(&mut self, table: SalesTable) -> u64 {
        let next = &mut self.next_ids[table as usize];
        *next += 1;
        *next - 1
    }

    fn tell_delete<R: Row>(&mut self, partition: u64, row: &R) {
        self.tell(Operation::Delete, partition, Some(row), None, None);
        if let Some(delete) = self.waiting.back().cloned() {
            self.waiting.push_back(Event { payload: Bytes::new(), ..delete });
        }
    }

    fn tell<R: Row>(
        &mut self,
        operation: Operation,
        partition: u64,
        before: Option<&R>,
        after: Option<&R>,
        fault: Option<Fault>,
    ) {
        let (at_us, transaction) = (self.now_us, self.transaction);
        let first_scn = *self.first_scn.get_or_insert(at_us.unsigned_abs());
        let scn = first_scn + transaction;
        let change = Change { before, after, operation, at_us, transaction, scn };
        let prefix = match R::TABLE {
            SalesTable::Orders | SalesTable::OrderItems => "order",
            SalesTable::Customers => "customer",
            SalesTable::Products => "product",
            SalesTable::AuditLog => "audit",
        };
        self.waiting.push_back(Event {
            topic: topic(R::TABLE, operation),
            key: format!("{prefix}-{partition}"),
            payload: self.writer.write(&change),
            table: R::TABLE,
            operation,
            fault,
        });
    }
}
