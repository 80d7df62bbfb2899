//! Orders of before the run, hours to weeks old, that changes of any time may hit.

use std::collections::HashMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::documents::order_details;
use super::shipping::shipping_info;
use super::values::{
    ADDRESS_CHANGE_SHARE, STATUSES, next_status, one_of, price_cents, quantity, total_cents,
};
use crate::generator::config::Config;
use crate::generator::row::{Document, Item, Order};

/// The ages of orders when the run begins: as many of an hour to three as of nine days to four weeks.
const YOUNGEST_US: f64 = 3_600e6;
const OLDEST_IN_YOUNGEST: f64 = 24.0 * 28.0;
/// Looks for a row that was not deleted.
const TRIES: u32 = 8;

/// What a row of the archive has become.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// The number of changes, and the time of the last one.
    Changed {
        times: u32,
        at_us: i64,
    },
    Deleted,
}

/// How an update of an order left it.
pub(super) struct UpdatedOrder {
    pub(super) before: Order,
    pub(super) after: Order,
    /// Whether the XML changed too.
    pub(super) is_moved: bool,
}

/// The orders of before the run, one item each; order and item have the same id, 1 up to their number.
///
/// A row is made from the seed, its id and the number of its changes, whenever it is needed. So there may be
/// far more of them than memory holds; only of those that changed a few bytes are kept.
pub(super) struct Archive {
    config: Config,
    customers: u64,
    products: u64,
    /// The time of the first event.
    opened_us: Option<i64>,
    orders: HashMap<u64, Fate>,
    items: HashMap<u64, Fate>,
}

/// Which values of a row are drawn.
#[derive(Debug, Clone, Copy)]
enum Draw {
    Order,
    Item,
}

impl Archive {
    /// Its rows name the first customers and products; this is how many there are.
    pub(super) fn new(config: &Config, customers: u64, products: u64) -> Self {
        let (orders, items) = (HashMap::new(), HashMap::new());
        Self { config: config.clone(), customers, products, opened_us: None, orders, items }
    }

    pub(super) fn len(&self) -> u64 {
        self.config.history
    }

    /// Its rows are older than this; the first call counts.
    pub(super) fn open(&mut self, now_us: i64) {
        self.opened_us.get_or_insert(now_us);
    }

    pub(super) fn pick_order(&self, rng: &mut StdRng) -> Option<u64> {
        self.pick(&self.orders, rng)
    }

    pub(super) fn pick_item(&self, rng: &mut StdRng) -> Option<u64> {
        self.pick(&self.items, rng)
    }

    fn pick(&self, fates: &HashMap<u64, Fate>, rng: &mut StdRng) -> Option<u64> {
        let mut picked = (0..TRIES).map(|_| rng.random_range(1..=self.len().max(1)));
        picked.find(|id| self.len() > 0 && !matches!(fates.get(id), Some(Fate::Deleted)))
    }

    /// The order as it is now, deleted or not.
    pub(super) fn order(&self, id: u64) -> Order {
        let (times, at_us) = changes(&self.orders, id);
        let mut order = self.first_order(id);
        for number in 1..=times {
            self.change_order(&mut order, number);
        }
        order.updated_us = at_us.unwrap_or(order.updated_us);
        order
    }

    /// The item as it is now, deleted or not.
    pub(super) fn item(&self, id: u64) -> Item {
        let (times, _) = changes(&self.items, id);
        let mut rng = self.rng(Draw::Item, id, 0);
        let product = rng.random_range(1..=self.products);
        let price_cents = price_cents(&mut rng);
        let quantity = quantity(&mut self.rng(Draw::Item, id, times));
        Item { id, order: id, product, quantity, price_cents }
    }

    pub(super) fn update_order(&mut self, id: u64, now_us: i64) -> UpdatedOrder {
        let before = self.order(id);
        let times = changes(&self.orders, id).0 + 1;
        let mut after = before.clone();
        let is_moved = self.change_order(&mut after, times);
        after.updated_us = now_us;
        self.orders.insert(id, Fate::Changed { times, at_us: now_us });
        UpdatedOrder { before, after, is_moved }
    }

    /// The item before and after.
    pub(super) fn update_item(&mut self, id: u64, now_us: i64) -> [Item; 2] {
        let before = self.item(id);
        let times = changes(&self.items, id).0 + 1;
        self.items.insert(id, Fate::Changed { times, at_us: now_us });
        [before, self.item(id)]
    }

    /// The item as it was, unless it is deleted already.
    pub(super) fn delete_item(&mut self, id: u64) -> Option<Item> {
        let is_there = !matches!(self.items.get(&id), Some(Fate::Deleted));
        let item = is_there.then(|| self.item(id));
        self.items.insert(id, Fate::Deleted);
        item
    }

    pub(super) fn delete_order(&mut self, id: u64) -> Order {
        let order = self.order(id);
        self.orders.insert(id, Fate::Deleted);
        order
    }

    fn first_order(&self, id: u64) -> Order {
        let mut rng = self.rng(Draw::Order, id, 0);
        let age = YOUNGEST_US * OLDEST_IN_YOUNGEST.powf(rng.random());
        let made_us = self.opened_us.unwrap_or_default() - age as i64;
        let shipping = shipping_info(&mut rng, self.config.xml_items);
        Order {
            id,
            customer: rng.random_range(1..=self.customers),
            date_us: made_us,
            status: one_of(&STATUSES, &mut rng),
            total_cents: total_cents(&mut rng),
            shipping: Document::Text(shipping),
            details: self.details(&mut rng),
            created_us: made_us,
            updated_us: made_us,
        }
    }

    /// Makes the change of this number; whether the XML changed too.
    fn change_order(&self, order: &mut Order, number: u32) -> bool {
        let mut rng = self.rng(Draw::Order, order.id, number);
        order.status = next_status(&mut rng);
        order.total_cents = total_cents(&mut rng);
        let is_moved = rng.random_bool(ADDRESS_CHANGE_SHARE);
        if is_moved {
            order.shipping = Document::Text(shipping_info(&mut rng, self.config.xml_items));
            order.details = self.details(&mut rng);
        }
        is_moved
    }

    fn details(&self, rng: &mut StdRng) -> Option<Document> {
        let text: Option<Arc<str>> = self.config.documents.then(|| order_details(rng));
        text.map(Document::Text)
    }

    fn rng(&self, draw: Draw, id: u64, number: u32) -> StdRng {
        // Each of them is mixed before it is added, so that no two rows share their values.
        let mix = |value: u64| value.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let seed = mix(mix(mix(self.config.seed) ^ id) ^ u64::from(number)) ^ draw as u64;
        StdRng::seed_from_u64(seed)
    }
}

/// How often a row changed, and when last.
fn changes(fates: &HashMap<u64, Fate>, id: u64) -> (u32, Option<i64>) {
    match fates.get(&id) {
        Some(Fate::Changed { times, at_us }) => (*times, Some(*at_us)),
        Some(Fate::Deleted) | None => (0, None),
    }
}
