//! The shop: its rows, and the changes that it makes to them.

mod archive;
mod documents;
mod live;
mod shipping;
mod told;
mod values;

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::generator::config::Config;
use crate::generator::event::{Event, Fault, Operation};
use crate::generator::mix::OperationMix;
use crate::generator::row::{AuditEntry, Customer, Document, Item, Order, Product, SalesTable};
use archive::{Archive, UpdatedOrder};
use documents::{addresses, order_details};
use live::Live;
use shipping::{broken_shipping_info, shipping_info};
use told::Told;
use values::{
    ADDRESS_CHANGE_SHARE, STATUSES, USERS, next_status, price_cents, quantity, total_cents,
};

const FIRST_CUSTOMERS: u64 = 100;
const FIRST_PRODUCTS: u64 = 50;
/// Orders that may still change; their items with them.
const LIVE_ORDERS: usize = 50_000;
const LIVE_ITEMS: usize = 100_000;
const LIVE_OTHERS: usize = 100_000;
/// Updates of products that change the key, which Oracle sees as delete and create.
const KEY_CHANGE_SHARE: f64 = 0.002;

/// 2099-01-01, which no watermark may believe.
const FAR_FUTURE_US: i64 = 4_070_908_800_000_000;

/// The shop whose changes the generator tells.
pub(super) struct Shop {
    rng: StdRng,
    config: Config,
    told: Told,
    /// Orders of before the run, and their items.
    archive: Archive,
    orders: Live<(Order, Vec<u64>)>,
    items: Live<Item>,
    customers: Live<Customer>,
    products: Live<Product>,
    next_ids: [u64; 5],
    /// Items that came with their orders, to be taken off those made for their own sake.
    first_items: u64,
    /// Item deletes that came with their orders, likewise.
    cascaded_deletes: u64,
}

impl Shop {
    pub(super) fn new(config: &Config) -> Self {
        let archive = Archive::new(config, FIRST_CUSTOMERS, FIRST_PRODUCTS);
        let first = archive.len() + 1;
        Self {
            archive,
            rng: StdRng::seed_from_u64(config.seed),
            config: config.clone(),
            told: Told::new(config),
            orders: Live::new(LIVE_ORDERS),
            items: Live::new(LIVE_ITEMS),
            customers: Live::new(LIVE_OTHERS),
            products: Live::new(LIVE_OTHERS),
            next_ids: [first, first, 1, 1, 1],
            first_items: 0,
            cascaded_deletes: 0,
        }
    }

    /// The next event as of `now_us`; the events of one change come one after the other.
    pub(super) fn next_event(&mut self, now_us: i64) -> Event {
        self.told.now_us = now_us;
        loop {
            if let Some(event) = self.told.waiting.pop_front() {
                return event;
            }
            self.archive.open(now_us);
            self.told.transaction += 1;
            self.change_something();
        }
    }

    fn change_something(&mut self) {
        if self.told.transaction <= FIRST_CUSTOMERS {
            return self.add_customer(Operation::Read);
        }
        if self.told.transaction <= FIRST_CUSTOMERS + FIRST_PRODUCTS {
            return self.add_product(Operation::Read);
        }
        if let Some(id) = self.told.transaction.checked_sub(FIRST_CUSTOMERS + FIRST_PRODUCTS)
            && id <= self.archive.len()
        {
            return self.tell_archived(id);
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
        if self.is_old_row(operation)
            && let Some(id) = self.archive.pick_order(&mut self.rng)
        {
            return match operation {
                Operation::Delete => self.delete_archived_order(id),
                _ => self.update_archived_order(id),
            };
        }
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
        let (id, now_us) = (self.next_id(SalesTable::Orders), self.told.now_us);
        let order = Order {
            id,
            customer,
            date_us: self.order_date_us(),
            status: STATUSES[0],
            total_cents: total_cents(&mut self.rng),
            shipping,
            details: self.document(order_details),
            created_us: now_us,
            updated_us: now_us,
        };
        self.told.tell(Operation::Create, id, None, Some(&order), fault);
        if let Some((_, items)) = self.orders.insert(id, (order, Vec::new())) {
            for item in items {
                self.items.remove(item);
            }
        }
        self.add_item_of(id);
        self.first_items += 1;
    }

    /// When the business says that the order was made: now, some time ago, or in a future that nobody sees.
    fn order_date_us(&mut self) -> i64 {
        let chance: f64 = self.rng.random();
        if chance < self.config.late {
            self.told.now_us - self.rng.random_range(10_000_000..240_000_000)
        } else if chance < self.config.late + self.config.out_of_order {
            self.told.now_us - self.rng.random_range(100_000..9_000_000)
        } else if chance >= 1.0 - self.config.misdated {
            FAR_FUTURE_US
        } else {
            self.told.now_us
        }
    }

    fn update_order(&mut self, id: u64) {
        let changes_address = self.rng.random_bool(ADDRESS_CHANGE_SHARE);
        let address = changes_address.then(|| shipping_info(&mut self.rng, self.config.xml_items));
        let details = if changes_address { self.document(order_details) } else { None };
        let status = next_status(&mut self.rng);
        let total = total_cents(&mut self.rng);
        let Some((order, _)) = self.orders.get_mut(id) else { return };
        let before = order.clone();
        order.status = status;
        order.total_cents = total;
        order.updated_us = self.told.now_us;
        let is_moved = address.is_some();
        if let Some(address) = address {
            order.shipping = Document::Text(address);
            order.details = details.or(order.details.take());
        }
        let after = order.clone();
        self.tell_order_update(UpdatedOrder { before, after, is_moved });
    }

    fn tell_order_update(
        &mut self,
        UpdatedOrder { mut before, mut after, is_moved }: UpdatedOrder,
    ) {
        if self.config.unchanged_lobs {
            // The redo log has no old value of a LOB, and no new one if it was not touched.
            before.forget_documents();
            if !is_moved {
                after.forget_documents();
            }
        }
        self.told.tell(Operation::Update, after.id, Some(&before), Some(&after), None);
    }

    /// Deletes the items first, as a foreign key demands.
    fn delete_order(&mut self, id: u64) {
        let Some((order, items)) = self.orders.remove(id) else { return };
        let items = items.into_iter().filter_map(|item| self.items.remove(item)).collect();
        self.tell_order_delete(order, items);
    }

    fn tell_order_delete(&mut self, mut order: Order, items: Vec<Item>) {
        for item in items {
            self.cascaded_deletes += 1;
            self.told.tell_delete(order.id, &item);
        }
        if self.config.unchanged_lobs {
            order.forget_documents();
        }
        self.told.tell_delete(order.id, &order);
    }

    /// Whether a change hits a row of before the run.
    fn is_old_row(&mut self, operation: Operation) -> bool {
        let can_be = matches!(operation, Operation::Update | Operation::Delete);
        // Without old rows the other random values are as they were.
        can_be && self.config.old_rows > 0.0 && self.rng.random_bool(self.config.old_rows)
    }

    /// An order of before the run, and its item, as the snapshot at the beginning has them.
    fn tell_archived(&mut self, id: u64) {
        let (order, item) = (self.archive.order(id), self.archive.item(id));
        self.told.tell(Operation::Read, id, None, Some(&order), None);
        self.told.tell(Operation::Read, id, None, Some(&item), None);
    }

    fn update_archived_order(&mut self, id: u64) {
        let updated = self.archive.update_order(id, self.told.now_us);
        self.tell_order_update(updated);
    }

    fn delete_archived_order(&mut self, id: u64) {
        let items = self.archive.delete_item(id).into_iter().collect();
        let order = self.archive.delete_order(id);
        self.tell_order_delete(order, items);
    }

    fn change_archived_item(&mut self, operation: Operation, id: u64) {
        if operation == Operation::Delete {
            if let Some(item) = self.archive.delete_item(id) {
                self.told.tell_delete(item.order, &item);
            }
            return;
        }
        let [before, after] = self.archive.update_item(id, self.told.now_us);
        self.told.tell(Operation::Update, after.order, Some(&before), Some(&after), None);
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
        if self.is_old_row(operation)
            && let Some(id) = self.archive.pick_item(&mut self.rng)
        {
            return self.change_archived_item(operation, id);
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
        let quantity = quantity(&mut self.rng);
        let item = Item { id, order, product, quantity, price_cents };
        self.told.tell(Operation::Create, order, None, Some(&item), None);
        self.items.insert(id, item);
        if let Some((_, items)) = self.orders.get_mut(order) {
            items.push(id);
        }
    }

    fn update_item(&mut self, id: u64) {
        let quantity = quantity(&mut self.rng);
        let Some(item) = self.items.get_mut(id) else { return };
        let before = item.clone();
        item.quantity = quantity;
        let after = item.clone();
        self.told.tell(Operation::Update, after.order, Some(&before), Some(&after), None);
    }

    fn delete_item(&mut self, id: u64) {
        let Some(item) = self.items.remove(id) else { return };
        if let Some((_, items)) = self.orders.get_mut(item.order) {
            items.retain(|other| *other != id);
        }
        self.told.tell_delete(item.order, &item);
    }

    fn change_customers(&mut self) {
        let operation = self.operation(OperationMix::new(20, 75, 5));
        let picked = self.customers.pick(&mut self.rng);
        match (operation, picked) {
            (Operation::Update, Some(id)) => self.update_customer(id, None),
            (Operation::Delete, Some(id)) if self.customers.len() as u64 > FIRST_CUSTOMERS / 2 => {
                if let Some(customer) = self.customers.remove(id) {
                    self.told.tell_delete(id, &customer);
                }
            }
            _ => self.add_customer(Operation::Create),
        }
    }

    fn add_customer(&mut self, operation: Operation) {
        let id = self.next_id(SalesTable::Customers);
        let now_us = self.told.now_us;
        let mut customer = values::customer(&mut self.rng, id, now_us);
        customer.addresses = self.document(addresses);
        self.told.tell(operation, id, None, Some(&customer), None);
        self.customers.insert(id, customer);
    }

    fn update_customer(&mut self, id: u64, loyalty_points: Option<u64>) {
        let (tier, region) = (values::tier(&mut self.rng), values::region(&mut self.rng));
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
        self.told.tell(Operation::Update, id, Some(&before), Some(&after), fault);
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
                    self.told.tell_delete(id, &product);
                }
            }
            _ => self.add_product(Operation::Create),
        }
    }

    fn add_product(&mut self, operation: Operation) {
        let id = self.next_id(SalesTable::Products);
        let product = values::product(&mut self.rng, id);
        self.told.tell(operation, id, None, Some(&product), None);
        self.products.insert(id, product);
    }

    fn update_product(&mut self, id: u64) {
        let (stock, is_active) = (values::stock(&mut self.rng), self.rng.random_bool(0.95));
        let price = price_cents(&mut self.rng);
        let Some(product) = self.products.get_mut(id) else { return };
        let before = product.clone();
        product.stock = stock;
        product.price_cents = price;
        product.is_active = is_active;
        let after = product.clone();
        self.told.tell(Operation::Update, id, Some(&before), Some(&after), None);
    }

    /// Delete, tombstone, create: one transaction.
    fn change_product_key(&mut self, id: u64) {
        let Some(before) = self.products.remove(id) else { return };
        let after = Product { id: self.next_id(SalesTable::Products), ..before.clone() };
        self.told.tell_delete(id, &before);
        self.told.tell(Operation::Create, after.id, None, Some(&after), None);
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
            changed_us: self.told.now_us,
        };
        self.told.tell(Operation::Create, id, None, Some(&entry), None);
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
            changed_us: self.told.now_us,
        };
        self.told.tell(Operation::Create, id, None, Some(&entry), Some(Fault::MalformedJson));
        if let Some(event) = self.told.waiting.back_mut() {
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
}
