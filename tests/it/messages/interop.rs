//! The official Python client against the development broker: code that nobody here wrote.

use std::path::PathBuf;
use std::process::Command;

/// `make setup` puts the client there.
pub(crate) fn python() -> PathBuf {
    let home = std::env::var_os("HOME").expect("HOME is set");
    let python = PathBuf::from(home).join(".cache/tidemark/venv/bin/python");
    assert!(python.exists(), "the Python client is missing: run `make setup`");
    python
}

fn passes(scenario: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/broker_interop.py");
    let broker = format!(
        "{} broker --listen 127.0.0.1:{{port}} --data {{data}} --config {{config}}",
        env!("CARGO_BIN_EXE_tidemark")
    );
    let output = Command::new(python())
        .args([script, scenario, "--broker-cmd", &broker])
        .output()
        .expect("python runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = text.lines().filter(|line| line.starts_with("PASS ")).count();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && passed == 1, "{text}\n{errors}");
}

macro_rules! scenarios {
    ($($test:ident: $scenario:literal,)*) => {
        $(#[test] fn $test() { passes($scenario); })*
    };
}

scenarios! {
    login_and_refused_passwords: "login",
    queues_are_provisioned_and_permissions_checked: "provision",
    wildcard_subscriptions_match: "wildcards",
    published_messages_come_in_order: "publish-and-receive",
    a_killed_consumer_gets_its_messages_again_under_the_same_ids: "consumer-kill",
    a_killed_broker_loses_and_doubles_nothing: "broker-kill",
    a_killed_broker_loses_nothing_of_a_shared_queue: "broker-kill-shared",
    partitions_keep_the_order_of_a_key: "partitions",
    settlement_outcomes_and_the_dead_message_queue: "settlement",
    a_full_queue_refuses_publishers: "quota",
    direct_messages_and_temporary_queues: "direct-and-temporary",
    a_stopped_consumer_gets_nothing: "stopped-consumer",
    limits_hold: "limits",
    hostile_clients_do_no_harm: "hostile-clients",
}
