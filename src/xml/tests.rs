mod properties;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::error::XmlProblem;
use super::*;

/// A shape of texts, each column called by its path.
fn shape(row: &str, paths: &[&str]) -> Arc<Shape> {
    let column = |path: &&str| ShapeColumn::new(path, DataType::Utf8, path).unwrap();
    Arc::new(Shape::new(row, paths.iter().map(column).collect()).unwrap())
}

/// Rows with `|` between the values and `-` for NULL.
fn shown(columns: &[ArrayRef]) -> Vec<String> {
    let texts: Vec<ArrayRef> =
        columns.iter().map(|column| cast(column, &DataType::Utf8).unwrap()).collect();
    let value = |column: &ArrayRef, row: usize| {
        let column = column.as_any().downcast_ref::<StringArray>().unwrap();
        if column.is_null(row) { "-".to_owned() } else { column.value(row).to_owned() }
    };
    let rows = texts.first().map_or(0, |column| column.len());
    let row = |row| texts.iter().map(|c| value(c, row)).collect::<Vec<_>>().join("|");
    (0..rows).map(row).collect()
}

fn extracted(
    shape: &Arc<Shape>,
    document: &str,
    limits: XmlLimits,
) -> Result<Vec<String>, XmlError> {
    let mut extractor = Extractor::new(std::slice::from_ref(shape), limits);
    extractor.read(document)?;
    let mut cells = ShapeRows::new(shape);
    cells.append(&extractor, 0, MissingValue::Null).unwrap();
    Ok(shown(&cells.finish()))
}

fn rows(row: &str, paths: &[&str], document: &str) -> Vec<String> {
    extracted(&shape(row, paths), document, XmlLimits::default()).unwrap()
}

fn error(document: &str) -> String {
    let shape = shape(".//item", &["."]);
    extracted(&shape, document, XmlLimits::default()).unwrap_err().to_string()
}

const ORDER: &str = r#"<order id="7">
  <customer><name>Ada</name><phone>1</phone><phone kind="home">2</phone></customer>
  <items currency="EUR">
    <item product_id="10" quantity="2"><name>Pen &amp; Ink</name></item>
    <item product_id="11"><name>Cup</name><note>a<b>b</b>c</note></item>
  </items>
  <total>9.50</total>
</order>"#;

#[test]
fn columns_come_from_the_row_and_from_above_it() {
    let paths =
        ["@product_id", "@quantity", "name", "note", "note/text()", "../@currency", "../../@id"];
    assert_eq!(
        rows(".//item", &paths, ORDER),
        ["10|2|Pen & Ink|-|-|EUR|7", "11|-|Cup|abc|a|EUR|7"]
    );
    // Before the rows and behind them; above the document there is nothing.
    let paths = [
        "../../customer/name",
        "../../customer/phone[2]",
        "../../customer/phone[2]/@kind",
        "../../total",
        "../../../x",
    ];
    assert_eq!(rows("/order/items/item", &paths, ORDER), ["Ada|2|home|9.50|-"; 2]);
    assert_eq!(rows("//item[2]", &["name/text()", ".//b"], ORDER), ["Cup|b"]);
    assert_eq!(rows("/order/*/item[1]", &["*"], ORDER), ["Pen & Ink"]);
    assert_eq!(rows("/items/item", &["."], ORDER), [""; 0]);
}

#[test]
fn nested_levels_are_rows_of_their_own() {
    let document = "<part id='1'><part id='2'><part id='3'/></part><part id='4'/></part>";
    let paths = ["@id", "../@id", "../../@id"];
    assert_eq!(rows("//part", &paths, document), ["1|-|-", "2|1|-", "3|2|1", "4|1|-"]);
    assert_eq!(rows("/part/part/part", &paths, document), ["3|2|1"]);
    let text = "<a>1<a>2<a>3</a></a>4</a>";
    assert_eq!(
        rows("//a", &[".", "text()", "a", "a/a/text()"], text),
        ["1234|1|23|3", "23|2|3|-", "3|3|-|-"]
    );
}

#[test]
fn own_text_is_the_first_that_is_more_than_space() {
    let document = "<r><i>  <b/> x <b>y</b>z</i><i><b>y</b>\n</i><i> </i><i/><i>a<!-- c -->b<![CDATA[<]]></i></r>";
    assert_eq!(rows("//i", &["text()"], document), [" x ", "-", " ", "-", "ab<"]);
    assert_eq!(rows("//i", &["."], document), ["   x yz", "y\n", " ", "", "ab<"]);
}

#[test]
fn characters_are_those_that_the_document_means() {
    let cases = [
        ("<r><item>Grüße 😀 &#x1F600;&#65;</item></r>", "Grüße 😀 😀A"),
        ("<r><item>&lt;&gt;&amp;&apos;&quot;</item></r>", "<>&'\""),
        ("<r><item><![CDATA[<b> & </b>]]></item></r>", "<b> & </b>"),
        ("<r><item>a<!-- no -->b<?no?>c</item></r>", "abc"),
        ("<r><item>1\r\n2\r3</item></r>", "1\n2\n3"),
        ("\u{feff}<?xml version='1.0' encoding='UTF-16'?><r><item>ü</item></r>", "ü"),
        ("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><r><item>ü</item></r>", "ü"),
        ("<x:r xmlns:x='urn:x' xmlns='urn:d'><x:item>n</x:item></x:r>", "n"),
    ];
    for (document, expected) in cases {
        assert_eq!(rows(".//item", &["."], document), [expected], "{document}");
    }
    let document = "<r><item xmlns:id='no' x:id='a&#10;b\n&lt;\"' n='é'/></r>";
    assert_eq!(rows(".//item", &["@id", "@n"], document), ["a\nb <\"|é"]);
}

#[test]
fn no_document_is_no_rows() {
    for document in [
        "",
        " \n",
        "\u{feff}",
        "<items></items>",
        "<items/>",
        "<?xml version='1.0'?>\n<!-- --><items/>\n",
    ] {
        assert_eq!(rows(".//item", &["."], document), [""; 0], "{document}");
    }
}

#[test]
fn malformed_documents_are_refused_with_the_byte() {
    let cases = [
        ("<r><item></r>", "at byte 9: "),
        ("<r><item>", "at byte 9: the document ends inside of the element item"),
        ("<r><item", "at byte 3: "),
        ("<r>&unknown;</r>", "at byte 3: the entity &unknown; is not one of the five"),
        ("<r>&#0;</r>", "at byte 3: &#0; is no character of XML"),
        ("<r>&#xD800;</r>", "at byte 3: &#xD800; is no character"),
        ("<r>a & b</r>", "at byte 5: "),
        ("<r><item>\u{1}</item></r>", "at byte 9: the character U+0001 is not allowed"),
        ("<r a='1' a='2'/>", "at byte 9: the attribute a comes twice"),
        ("<r a=1/>", "at byte 5: the value of an attribute without quotes"),
        ("<r a/>", "at byte 4: an attribute without a value"),
        ("<r a='1'b='2'/>", "at byte 8: an attribute without a name or a space before it"),
        ("<r a='<'/>", "at byte 6: a '<'"),
        ("<r a='&no;'/>", "at byte 6: the entity &no;"),
        ("<r/><r/>", "at byte 4: a second element"),
        ("<r/>text", "at byte 4: text outside"),
        ("text", "at byte 0: text outside"),
        ("\u{feff}<r/>é", "at byte 7: text outside"),
        ("<!-- -->", "at byte 8: the document has no element"),
        (" <?xml version='1.0'?><r/>", "at byte 1: an XML declaration behind the beginning"),
        ("</r>", "at byte 0: "),
    ];
    for (document, expected) in cases {
        assert!(error(document).starts_with(expected), "{document}: {}", error(document));
    }
}

#[test]
fn a_dtd_is_refused_before_anything_is_expanded_or_fetched() {
    let laughs: String = (1..10)
        .map(|n| format!("<!ENTITY l{n} \"{}\">", format!("&l{};", n - 1).repeat(10)))
        .collect();
    let laughs = format!("<!DOCTYPE r [<!ENTITY l0 \"ha\">{laughs}]><r><item>&l9;</item></r>");
    let external =
        "<!DOCTYPE r [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><r><item>&x;</item></r>";
    for document in
        [laughs.as_str(), external, "<!DOCTYPE r SYSTEM \"http://localhost/r.dtd\"><r/>"]
    {
        assert!(error(document).contains("at byte 0: a DTD is not allowed"), "{document}");
    }
}

#[test]
fn limits_are_named_by_what_is_beyond_them() {
    let shape = shape(".//item", &[".", "@a", "../@x"]);
    let limits = XmlLimits { bytes: 2_000_000, depth: 5, rows: 3, value_bytes: 10 };
    let message = |document: &str| extracted(&shape, document, limits).unwrap_err().to_string();
    let nested = |levels: usize| format!("{}{}", "<a>".repeat(levels), "</a>".repeat(levels));
    assert!(extracted(&shape, &nested(5), limits).is_ok());
    assert!(message(&nested(6)).contains("limits.max_xml_depth (5)"));
    assert!(message(&nested(10_000)).starts_with("at byte 15: "));
    let items = |count: usize| format!("<r>{}</r>", "<item/>".repeat(count));
    assert!(extracted(&shape, &items(3), limits).is_ok());
    assert!(message(&items(4)).contains("limits.max_xml_rows (3)"));
    assert!(message(&" ".repeat(2_000_001)).contains("limits.max_xml_bytes (2000000)"));
    let text = |length: usize| format!("<r><item>{}</item></r>", "x".repeat(length));
    assert!(extracted(&shape, &text(10), limits).is_ok());
    assert!(message(&text(11)).contains("limits.max_xml_value_bytes (10)"));
    assert!(message("<r><item a='12345678901'/></r>").contains("limits.max_xml_value_bytes"));
    assert!(
        message("<r><item>1234567&#65;&#65;&#65;&#65;</item></r>")
            .contains("limits.max_xml_value_bytes")
    );
    // What no path asks for may be long.
    assert!(extracted(&shape, &format!("<r><x>{}</x></r>", "x".repeat(100)), limits).is_ok());
    let attributes: String = (0..257).map(|n| format!(" a{n}=''")).collect();
    assert!(message(&format!("<r{attributes}/>")).contains("more than 256 attributes"));
}

#[test]
fn a_long_value_above_many_rows_is_not_multiplied_without_end() {
    let above = |paths: &[&str]| {
        let document =
            format!("<r x='{0}'><x>{0}</x>{1}</r>", "x".repeat(5000), "<item/>".repeat(1000));
        extracted(&shape("//item", paths), &document, XmlLimits::default())
    };
    for path in ["../@x", "../x"] {
        let error = above(&[path]).unwrap_err();
        assert!(matches!(error.problem, XmlProblem::TooMuchRepetition(16)), "{error}");
    }
    assert_eq!(above(&["../@y"]).unwrap().len(), 1000);
}

#[test]
fn all_shapes_of_a_document_are_found_in_one_pass() {
    let shapes = [
        shape("/order/items/item", &["@product_id"]),
        shape("//phone", &[".", "../name"]),
        shape("/order", &["total", "@id"]),
    ];
    let mut extractor = Extractor::new(&shapes, XmlLimits::default());
    let mut read = |document: &str| {
        extractor.read(document).unwrap();
        let rows = shapes.iter().enumerate().map(|(at, shape)| {
            let mut cells = ShapeRows::new(shape);
            assert_eq!(
                cells.append(&extractor, at, MissingValue::Null),
                Ok(AppendedRows { rows: extractor.row_count(at), unread_values: 0 })
            );
            shown(&cells.finish())
        });
        rows.collect::<Vec<_>>()
    };
    let expected = vec![vec!["10", "11"], vec!["1|Ada", "2|Ada"], vec!["9.50|7"]];
    assert_eq!(read(ORDER), expected);
    assert_eq!(read("<order/>"), [vec![], vec![], vec!["-|-"]]);
    assert_eq!(read(ORDER), expected, "nothing is left of other documents");
}

#[test]
fn values_become_their_types_or_what_the_policy_says() {
    let column =
        |name: &str, data_type| ShapeColumn::new(name, data_type, &format!("@{name}")).unwrap();
    let quantity = column("q", DataType::Int32).with_default("1").unwrap();
    let price = column("p", DataType::Decimal128(10, 2));
    let shape = Arc::new(Shape::new(".//i", vec![quantity, price]).unwrap());
    let mut extractor = Extractor::new(std::slice::from_ref(&shape), XmlLimits::default());
    extractor.read("<r><i q='2' p='9.50'/><i q='two' p='1.5'/><i p='1.234'/></r>").unwrap();
    let append = |missing| {
        let mut cells = ShapeRows::new(&shape);
        let appended = cells.append(&extractor, 0, missing)?;
        // `two` and `1.234`, whatever is in their place.
        assert_eq!(appended, AppendedRows { rows: 3, unread_values: 2 });
        Ok::<_, String>(shown(&cells.finish()))
    };
    assert_eq!(append(MissingValue::Null).unwrap(), ["2|9.50", "-|1.50", "-|-"]);
    assert_eq!(append(MissingValue::Default).unwrap(), ["2|9.50", "1|1.50", "1|-"]);
    let error = append(MissingValue::Fail).unwrap_err();
    assert_eq!(error, "row 2, column q INTEGER: the value 'two' is not a number");
    assert!(column("d", DataType::Int32).with_default("x").is_err());
}

#[test]
fn a_large_document_takes_a_small_multiple_of_itself() {
    let item = |at: usize| format!("<item id='{at}' n='1'><name>{}</name></item>", "n".repeat(70));
    let document = format!("<r x='y'>{}</r>", (0..46_000).map(item).collect::<String>());
    assert!(document.len() > 5_000_000, "{}", document.len());
    let shape = shape(".//item", &["@id", "@n", "name", "../@x", "../total"]);
    let mut extractor = Extractor::new(std::slice::from_ref(&shape), XmlLimits::default());
    extractor.read(&document).unwrap();
    assert_eq!(extractor.row_count(0), 46_000);
    let (memory, bytes) = (extractor.memory(), document.len());
    assert!(memory < 4 * bytes, "{memory} for {bytes}");
    let mut cells = ShapeRows::new(&shape);
    cells.append(&extractor, 0, MissingValue::Null).unwrap();
    let arrays: usize = cells.finish().iter().map(|column| column.get_array_memory_size()).sum();
    assert!(arrays < 4 * bytes, "{arrays} for {bytes}");
    // What claims to be large is not believed, and what is refused leaves nothing behind.
    let mut small = Extractor::new(std::slice::from_ref(&shape), XmlLimits::default());
    small.read("<r size='1073741824'><item id='99999999999999999999'/></r>").unwrap();
    let deep = "<a>".repeat(1_000_000);
    small.read(&deep).unwrap_err();
    assert!(small.memory() < 100_000, "{}", small.memory());
}

fn source(late: crate::model::Late) -> Arc<crate::model::Table> {
    use crate::model::{
        Column, Landing, LearnedColumns, SourceTable, Table, TableOptions, TableOrigin,
    };
    let column =
        |name: &str, data_type| Column { name: name.to_owned(), data_type, nullable: true };
    Arc::new(Table {
        name: "orders".to_owned(),
        source: SourceTable { schema: "S".to_owned(), table: "ORDERS".to_owned() },
        columns: vec![
            column("id", DataType::Int64),
            column("doc", DataType::Utf8),
            column("amount", DataType::Int64),
        ],
        key: vec![0],
        options: TableOptions {
            late,
            landing: Landing::History("cdc_orders".to_owned()),
            ..TableOptions::default()
        },
        origin: TableOrigin::Declared,
        learned: LearnedColumns::default(),
    })
}

/// The section with some of its lines replaced, over the table above.
fn resolved(lines: &[(&str, &str)]) -> Result<Vec<Arc<Extraction>>, Vec<String>> {
    resolved_over(crate::model::Late::Update, lines)
}

fn resolved_over(
    late: crate::model::Late,
    lines: &[(&str, &str)],
) -> Result<Vec<Arc<Extraction>>, Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Sections {
        xml: Vec<XmlConfig>,
    }
    let mut text = "[[xml]]\nsource_table = 'S.ORDERS'\nxml_column = 'DOC'\ntarget_table = 'items'\nxpath = '//i'\n\
        columns = [{ name = 'n', path = '@n' }]\n"
        .to_owned();
    for (line, other) in lines {
        assert!(text.contains(line), "{line}");
        text = text.replace(line, other);
    }
    let sections: Sections = toml::from_str(&text).unwrap();
    resolve(&sections.xml, &[source(late)], |_| Ok(DataType::Utf8))
}

#[test]
fn a_mapping_makes_a_table_with_the_key_of_its_source_table() {
    let names = |extraction: &Extraction| {
        let columns = extraction.table.columns.iter().map(|column| column.name.clone());
        columns.collect::<Vec<_>>()
    };
    let plain = resolved(&[]).unwrap();
    assert_eq!(names(&plain[0]), ["id", "row_no", "n", "extracted_from"]);
    assert_eq!(
        (plain[0].table.key.clone(), plain[0].origin()),
        (vec![0, 1], "S.ORDERS.DOC".to_owned())
    );
    let renamed = resolved(&[("xpath", "parent_key = 'of_order'\nxpath")]).unwrap();
    assert_eq!(names(&renamed[0])[0], "of_order");
    assert_eq!(plain[0].table.options.references.as_ref().unwrap().table, "orders");
}

#[test]
fn a_mapping_that_does_not_fit_its_table_is_refused_with_its_key() {
    let cases = [
        (
            ("'S.ORDERS'", "'S.OTHER'"),
            "xml[0].source_table: no file under sql/tables declares S.OTHER",
        ),
        (("'DOC'", "'AMOUNT'"), "xml[0].xml_column: AMOUNT is declared as Int64"),
        (("'items'", "'orders'"), "xml[0].target_table: orders can't be told from"),
        (("'items'", "'orders_changes'"), "xml[0].target_table: orders_changes can't be told from"),
        (("'items'", "'Items'"), "xml[0].target_table: 'Items' is not a name"),
        (("'//i'", "'i['"), "xml[0].xpath: 'i[' has ["),
        (("name = 'n'", "name = 'row_no'"), "xml[0].columns: row_no is twice in items"),
        (("name = 'n'", "name = 'id'"), "xml[0].columns: id is twice in items"),
        (("xpath", "parent_key = ['a', 'b']\nxpath"), "xml[0].parent_key: 2 name(s)"),
    ];
    for (line, expected) in cases {
        let problems = resolved(&[line]).unwrap_err();
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{problems:?}");
    }
    let problems = resolved_over(crate::model::Late::Drop, &[]).unwrap_err();
    assert!(problems[0].contains("late = 'drop'"), "{problems:?}");
    let all = resolved(&[("'DOC'", "'AMOUNT'"), ("'//i'", "''"), ("'@n'", "''")]).unwrap_err();
    assert_eq!(all.len(), 3, "{all:?}");
}

#[test]
fn the_first_of_several_paths_that_is_there_counts_and_attributes_that_nothing_reads_are_counted() {
    let paths = ["@unit_price | @price|price", "../@unit | ../unit/text()", "@id"];
    let shape = shape(".//item", &paths);
    let mut extractor = Extractor::new(std::slice::from_ref(&shape), XmlLimits::default());
    let document = r#"<items unit="EUR" xmlns:x="urn:x"><unit>USD</unit>
        <item id="1" unit_price="9.50" price="8"/><item id="2" price="8"><price>7</price></item>
        <item id="3" colour="red" x:size="L" xmlns:y="urn:y"><price>7</price></item><item id="4"/></items>"#;
    extractor.read(document).unwrap();
    let mut cells = ShapeRows::new(&shape);
    cells.append(&extractor, 0, MissingValue::Null).unwrap();
    assert_eq!(shown(&cells.finish()), ["9.50|EUR|1", "8|EUR|2", "7|EUR|3", "-|EUR|4"]);
    assert_eq!(extractor.unread_attributes(0), 2, "colour and size");
    extractor.read("<items><unit>USD</unit><item/></items>").unwrap();
    let mut cells = ShapeRows::new(&shape);
    cells.append(&extractor, 0, MissingValue::Null).unwrap();
    assert_eq!(
        (shown(&cells.finish()), extractor.unread_attributes(0)),
        (vec!["-|USD|-".to_owned()], 0)
    );
    for wrong in ["@a|", "|", "@a | a/.."] {
        assert!(ShapeColumn::new("c", DataType::Utf8, wrong).is_err(), "{wrong}");
    }
}
