//! A whole processor whose only way to Postgres is pgbouncer in transaction mode, by TLS.

use std::os::unix::fs::MetadataExt;

use crate::certificates::Authority;
use crate::end_to_end::publish;
use crate::operations::doctor::examined;
use crate::pooler::Pooler;
use crate::referee;
use crate::shop::Shop;

/// The user of the operating system that the server runs as, if that is not us.
fn runs_as(shop: &Shop) -> Option<(u32, u32)> {
    let of = |path: &std::path::Path| {
        let known = std::fs::metadata(path).expect("a folder");
        (known.uid(), known.gid())
    };
    let (server, ours) = (of(&shop.stack.folder().join("postgres")), of(shop.stack.folder()));
    Some(server).filter(|server| server.0 != ours.0)
}

#[tokio::test]
async fn a_processor_behind_a_pooler_with_tls_is_exact_through_kills() {
    let shop = Shop::open().await;
    let url = shop.stack.postgres.url();
    let (_, port) = url.rsplit_once(':').expect("a port");
    let port = port.split('/').next().and_then(|port| port.parse().ok()).expect("a number");
    let authority = Authority::new();
    let pair = authority.issue("pooler", "IP:127.0.0.1");
    let tls = Some((pair.certificate.as_path(), pair.key.as_path()));
    let pooler = Pooler::start((port, "tidemark"), runs_as(&shop), tls).await;
    let plain = tokio_postgres::connect(&pooler.url(), tokio_postgres::NoTls).await;
    let refusal = plain.err().expect("who comes without TLS is refused");
    assert!(
        refusal
            .as_db_error()
            .is_some_and(|e| e.message().contains("TLS") || e.message().contains("SSL")),
        "{refusal:?}"
    );

    let place = shop.stack.folder().join("tidemark.toml");
    let config = std::fs::read_to_string(&place).expect("a configuration");
    let by_pooler = format!(
        "url = '{}'\npooler = 'transaction'\nsslmode = 'verify-full'\nroot_certificate = '{}'\n",
        pooler.url(),
        authority.certificate().display()
    );
    let direct = format!("url = '{url}'\n");
    assert!(config.contains(&direct), "{config}");
    std::fs::write(&place, config.replace(&direct, &by_pooler)).expect("written");

    // A pooler that the wrong authority vouches for is no pooler of ours.
    let other = authority.self_signed("other", "IP:127.0.0.1").certificate;
    let trusted = authority.certificate().display().to_string();
    let config = std::fs::read_to_string(&place).expect("a configuration");
    let distrusting = config.replace(&trusted, &other.display().to_string());
    std::fs::write(place.with_file_name("distrusting.toml"), distrusting).expect("written");
    let (_, found) = examined(&shop, "distrusting.toml").await;
    let says =
        |line: &&serde_json::Value| line["part"] == "postgres" && line["verdict"] == "problem";
    let problem = found.iter().find(says).expect("a problem").to_string();
    assert!(problem.contains("certificate"), "{problem}");

    let arguments = ["--rate", "max", "--events", "4000", "--faults", "0.02"];
    let published = publish(&shop, &arguments).await;
    for failpoint in ["before_commit:1", "between_commit_and_ack:1"] {
        let mut processor = shop.stack.processor(Some(failpoint)).expect("a processor");
        assert!(!shop.wait_for_end(&mut processor).await, "{failpoint} was not passed");
    }
    let mut processor = shop.stack.processor(None).expect("a processor");
    shop.wait_for(published).await;
    referee::all_is_exact(&shop, published).await;
    assert!(shop.number("SELECT count(*) FROM cdc_dlq").await > 0);
    shop.end(&mut processor).await;
    shop.stack.stop().await.expect("the servers end");
}
