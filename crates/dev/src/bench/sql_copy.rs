//! A copy of the SQL folder for the benchmark.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// A copy of the SQL whose orders land their XML as a text: what is measured is events, and `cargo bench
/// --bench xml` measures documents.
pub(super) fn with_text(sql: &Path, copy: PathBuf) -> anyhow::Result<PathBuf> {
    if copy.exists() {
        std::fs::remove_dir_all(&copy)?;
    }
    for part in ["tables", "transforms", "ods"] {
        std::fs::create_dir_all(copy.join(part))?;
        for entry in std::fs::read_dir(sql.join(part))? {
            let from = entry?.path();
            let name = from.file_name().context("a file of the folder")?;
            std::fs::copy(&from, copy.join(part).join(name))?;
        }
    }
    let orders = copy.join("tables/orders.sql");
    let text = std::fs::read_to_string(&orders)?;
    std::fs::write(orders, text.replace("  created_at", "  shipping_info VARCHAR,\n  created_at"))?;
    let column = "ALTER TABLE cdc_orders ADD COLUMN IF NOT EXISTS shipping_info TEXT;\n";
    std::fs::write(copy.join("ods/89_text.sql"), column)?;
    Ok(copy)
}
