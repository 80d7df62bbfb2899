//! The XML of an order.

use std::io::{self, Write};
use std::sync::Arc;

use quick_xml::Writer;
use rand::RngExt;
use rand::rngs::StdRng;

const CARRIERS: [&str; 4] = ["DHL", "UPS", "FedEx", "Hermes & Co"];
const METHODS: [&str; 3] = ["standard", "express", "overnight"];
pub(super) const STREETS: [&str; 5] =
    ["Main Street", "Rue de l'Église", "Königstraße", "\"The Yard\"", "Oak & Elm Road"];
pub(super) const CITIES: [(&str, &str); 5] =
    [("Berlin", "DE"), ("Lyon", "FR"), ("Austin", "US"), ("Osaka", "JP"), ("São Paulo", "BR")];

/// Products that items name, whether or not they exist.
pub(super) const PRODUCTS: u32 = 500;

/// The SHIPPING_INFO of an order: XML with attributes, nesting and characters that need escaping, and one to
/// `max_items` items.
pub(super) fn shipping_info(rng: &mut StdRng, max_items: u32) -> Arc<str> {
    let mut writer = Writer::new(Vec::with_capacity(512));
    write_shipping(&mut writer, rng, max_items).expect("a vector takes every byte");
    String::from_utf8(writer.into_inner()).expect("the writer was given text").into()
}

/// XML that ends in the middle of an element.
pub(super) fn broken_shipping_info(rng: &mut StdRng, max_items: u32) -> Arc<str> {
    let whole = shipping_info(rng, max_items);
    let end = whole.find("</city>").expect("every address has a city");
    whole[..end].into()
}

fn write_shipping<W: Write>(
    writer: &mut Writer<W>,
    rng: &mut StdRng,
    max_items: u32,
) -> io::Result<()> {
    let carrier = CARRIERS[rng.random_range(0..CARRIERS.len())];
    let method = METHODS[rng.random_range(0..METHODS.len())];
    let tracking = format!("{:012X}", rng.random_range(0..1u64 << 48));
    let street =
        format!("{} {}", rng.random_range(1..300), STREETS[rng.random_range(0..STREETS.len())]);
    let (city, country) = CITIES[rng.random_range(0..CITIES.len())];
    let zip = format!("{:05}", rng.random_range(10_000..99_999));
    let count = rng.random_range(1..=max_items);
    let weight = format!("{}.{}", rng.random_range(0..40), rng.random_range(1..10));
    writer.create_element("shipping").write_inner_content(|shipping| {
        text(shipping, "method", method)?;
        text(shipping, "carrier", carrier)?;
        text(shipping, "tracking", &tracking)?;
        shipping.create_element("address").write_inner_content(|address| {
            text(address, "street", &street)?;
            text(address, "city", city)?;
            text(address, "zip", &zip)?;
            text(address, "country", country)
        })?;
        let weight = shipping
            .create_element("weight")
            .with_attribute(("unit", "kg"))
            .write_text_content(quick_xml::events::BytesText::new(&weight));
        weight?;
        shipping
            .create_element("items")
            .write_inner_content(|items| (0..count).try_for_each(|_| item(items, rng)))?;
        Ok(())
    })?;
    Ok(())
}

fn item<W: Write>(writer: &mut Writer<W>, rng: &mut StdRng) -> io::Result<()> {
    let product = rng.random_range(1..=PRODUCTS).to_string();
    let quantity = rng.random_range(1..20).to_string();
    let price = format!("{}.{:02}", rng.random_range(1..200), rng.random_range(0..100));
    let item = writer.create_element("item").with_attributes([
        ("product_id", product.as_str()),
        ("quantity", quantity.as_str()),
        ("price", price.as_str()),
    ]);
    item.write_empty().map(drop)
}

pub(super) fn text<W: Write>(writer: &mut Writer<W>, name: &str, text: &str) -> io::Result<()> {
    let content = quick_xml::events::BytesText::new(text);
    writer.create_element(name).write_text_content(content).map(drop)
}
