//! Columns with XML besides the SHIPPING_INFO of orders.

use std::io::{self, Write};
use std::sync::Arc;

use quick_xml::Writer;
use rand::RngExt;
use rand::rngs::StdRng;

use super::shipping::{CITIES, PRODUCTS, STREETS, text};

const KINDS: [&str; 3] = ["billing", "shipping", "office"];

/// The ORDER_DETAILS of an order: one to three items, whose values are elements.
pub(super) fn order_details(rng: &mut StdRng) -> Arc<str> {
    let count = rng.random_range(1..=3);
    document("order", |order| {
        order
            .create_element("items")
            .write_inner_content(|items| (0..count).try_for_each(|_| item(items, rng)))
            .map(drop)
    })
}

/// The ADDRESSES of a customer: one to three, each of another kind.
pub(super) fn addresses(rng: &mut StdRng) -> Arc<str> {
    let count = rng.random_range(1..=KINDS.len());
    document("addresses", |addresses| {
        KINDS[..count].iter().try_for_each(|kind| address(addresses, kind, rng))
    })
}

fn document(root: &str, content: impl FnOnce(&mut Writer<Vec<u8>>) -> io::Result<()>) -> Arc<str> {
    let mut writer = Writer::new(Vec::with_capacity(512));
    let written = writer.create_element(root).write_inner_content(content).map(drop);
    written.expect("a vector takes every byte");
    String::from_utf8(writer.into_inner()).expect("the writer was given text").into()
}

fn item<W: Write>(writer: &mut Writer<W>, rng: &mut StdRng) -> io::Result<()> {
    let product = rng.random_range(1..=PRODUCTS).to_string();
    let quantity = rng.random_range(1..20).to_string();
    let price = format!("{}.{:02}", rng.random_range(1..200), rng.random_range(0..100));
    let item = writer.create_element("item").with_attribute(("product_id", product.as_str()));
    item.write_inner_content(|item| {
        text(item, "name", &format!("Product {product} & Söhne"))?;
        text(item, "quantity", &quantity)?;
        text(item, "price", &price)
    })
    .map(drop)
}

fn address<W: Write>(writer: &mut Writer<W>, kind: &str, rng: &mut StdRng) -> io::Result<()> {
    let street =
        format!("{} {}", rng.random_range(1..300), STREETS[rng.random_range(0..STREETS.len())]);
    let (city, country) = CITIES[rng.random_range(0..CITIES.len())];
    let zip = format!("{:05}", rng.random_range(10_000..99_999));
    let address = writer.create_element("address").with_attribute(("type", kind));
    address
        .write_inner_content(|address| {
            text(address, "street", &street)?;
            text(address, "city", city)?;
            text(address, "zip", &zip)?;
            text(address, "country", country)
        })
        .map(drop)
}
