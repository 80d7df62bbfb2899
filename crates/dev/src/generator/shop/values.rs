//! Random values of rows: names, states, amounts.

use rand::RngExt;
use rand::rngs::StdRng;

use crate::generator::row::{Customer, Product};

/// Updates that change the XML too.
pub(super) const ADDRESS_CHANGE_SHARE: f64 = 0.2;
/// Orders above 10,000, for which the shipped alert is.
const HIGH_VALUE_SHARE: f64 = 0.02;
const HIGH_VALUE_CENTS: std::ops::Range<u64> = 1_000_001..2_500_000;

pub(super) const STATUSES: [&str; 5] =
    ["PENDING", "CONFIRMED", "SHIPPED", "DELIVERED", "CANCELLED"];
const TIERS: [&str; 3] = ["GOLD", "SILVER", "BRONZE"];
const REGIONS: [&str; 4] = ["EMEA", "APAC", "NA", "LATAM"];
const CATEGORIES: [&str; 5] = ["BOOKS", "GAMES", "GARDEN", "KITCHEN", "OFFICE"];
const FIRST_NAMES: [&str; 8] =
    ["Ada", "Björn", "Chloé", "Dmitri", "Eva", "Fatima", "Goran", "O'Hara"];
const LAST_NAMES: [&str; 8] =
    ["Abe", "Brontë", "Castillo", "Dürer", "Eriksson", "Fischer", "García", "\"Hal\" Ito"];
pub(super) const USERS: [&str; 3] = ["SALES_APP", "BATCH", "DBA"];

/// A customer without addresses.
pub(super) fn customer(rng: &mut StdRng, id: u64, created_us: i64) -> Customer {
    let first = one_of(&FIRST_NAMES, rng);
    let last = one_of(&LAST_NAMES, rng);
    Customer {
        id,
        name: format!("{first} {last}").into(),
        email: format!("customer{id}@example.com").into(),
        tier: tier(rng),
        region: region(rng),
        created_us,
        addresses: None,
        loyalty_points: None,
    }
}

pub(super) fn product(rng: &mut StdRng, id: u64) -> Product {
    let category = one_of(&CATEGORIES, rng);
    Product {
        id,
        name: format!("Product {id}").into(),
        category,
        price_cents: price_cents(rng),
        stock: stock(rng),
        is_active: true,
    }
}

pub(super) fn tier(rng: &mut StdRng) -> &'static str {
    one_of(&TIERS, rng)
}

pub(super) fn region(rng: &mut StdRng) -> &'static str {
    one_of(&REGIONS, rng)
}

pub(super) fn stock(rng: &mut StdRng) -> u64 {
    rng.random_range(0..10_000)
}

pub(super) fn price_cents(rng: &mut StdRng) -> u64 {
    rng.random_range(100..100_000)
}

pub(super) fn quantity(rng: &mut StdRng) -> u64 {
    rng.random_range(1..20)
}

/// The state that an order changes to.
pub(super) fn next_status(rng: &mut StdRng) -> &'static str {
    one_of(&STATUSES[1..], rng)
}

/// Most orders are small; a few are large enough for an alert.
pub(super) fn total_cents(rng: &mut StdRng) -> u64 {
    if rng.random_bool(HIGH_VALUE_SHARE) {
        rng.random_range(HIGH_VALUE_CENTS)
    } else {
        rng.random_range(500..500_000)
    }
}

pub(super) fn one_of(values: &[&'static str], rng: &mut StdRng) -> &'static str {
    values[rng.random_range(0..values.len())]
}
