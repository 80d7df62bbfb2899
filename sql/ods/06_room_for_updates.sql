-- Results are updated again and again. With room on its page, the new version of a row needs no new index entries.
ALTER TABLE cdc_orders_enriched SET (fillfactor = 70);
ALTER TABLE cdc_order_lines_enriched SET (fillfactor = 70);
ALTER TABLE cdc_order_stats SET (fillfactor = 70);
