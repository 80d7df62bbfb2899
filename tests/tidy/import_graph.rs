//! Which file of a crate takes names from which other file: read from the syntax, without tests.
//!
//! A name that a module passes on with `use` leads to the file that defines it, so that a `mod.rs` which
//! only lists and re-exports its children is no part of a circle.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use syn::visit::Visit;
use syn::{Attribute, Item, UseTree};

/// A file, the files that it takes names from, and those names.
pub(crate) type Imports = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

type Segments = Vec<String>;

/// One module of a crate, as its file declares it.
struct Module {
    file: String,
    path: Segments,
    children: HashSet<String>,
    defined: HashSet<String>,
    imports: Vec<Import>,
    mentions: BTreeSet<Segments>,
}

/// One leaf of a `use` tree; `name` is `None` for `*`.
struct Import {
    name: Option<String>,
    target: Segments,
    is_passed_on: bool,
}

/// The imports between the files of one crate; `sources` are paths below the crate's `src/` and texts.
///
/// # Panics
/// If a file is no Rust.
pub(crate) fn imports(sources: &[(String, String)]) -> Imports {
    let modules: HashMap<Segments, Module> = sources
        .iter()
        .map(|(file, text)| Module::read(file, text))
        .map(|m| (m.path.clone(), m))
        .collect();
    let graph = Graph { modules };
    let mut all = Imports::new();
    for module in graph.modules.values() {
        let taken = all.entry(module.file.clone()).or_default();
        for (file, name) in graph.taken_by(module) {
            if file != module.file {
                taken.entry(file).or_default().insert(name);
            }
        }
    }
    all
}

/// The groups of files that reach each other, largest first; empty if there is no circle.
pub(crate) fn circles(imports: &Imports) -> Vec<Vec<String>> {
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|file| (file.as_str(), reachable(imports, file))).collect();
    let mut found: BTreeSet<Vec<String>> = BTreeSet::new();
    for (file, reached) in &reach {
        let is_mutual = |other: &&&str| reach.get(**other).is_some_and(|back| back.contains(file));
        let group: Vec<String> =
            reached.iter().filter(is_mutual).map(|s| (*s).to_owned()).collect();
        if !group.is_empty() {
            found.insert(group);
        }
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|group| std::cmp::Reverse(group.len()));
    found
}

/// The folders that hold files or folders of the crate; the crate itself is "".
pub(crate) fn folders(imports: &Imports) -> BTreeSet<String> {
    let parents = |file: &String| {
        let ends: Vec<usize> = file.match_indices('/').map(|(at, _)| at).collect();
        ends.into_iter().map(|end| file[..end].to_owned()).collect::<Vec<_>>()
    };
    imports.keys().flat_map(parents).chain([String::new()]).collect()
}

/// The imports between what stands directly in a folder: files, and folders as a whole. `x.rs` belongs to `x/`; what
/// the folder's own `mod.rs` passes on or drives does not count, since it stands for the folder.
pub(crate) fn rooms(imports: &Imports, folder: &str) -> Imports {
    let mut between = Imports::new();
    for (from, taken) in imports {
        let Some(from) = room(from, folder) else { continue };
        let into = between.entry(from.to_owned()).or_default();
        for (to, names) in taken {
            if let Some(to) = room(to, folder).filter(|to| *to != from) {
                into.entry(to.to_owned()).or_default().extend(names.iter().cloned());
            }
        }
    }
    for rooms in between.values().flat_map(|taken| taken.keys().cloned()).collect::<Vec<_>>() {
        between.entry(rooms).or_default();
    }
    between
}

/// The name of what holds `file` directly in `folder`; `None` if it is elsewhere.
fn room<'a>(file: &'a str, folder: &str) -> Option<&'a str> {
    let inside = match folder {
        "" => file,
        _ => file.strip_prefix(folder)?.strip_prefix('/')?,
    };
    let name = inside.split('/').next()?.trim_end_matches(".rs");
    (!matches!(name, "mod" | "lib" | "main")).then_some(name)
}

fn reachable<'a>(imports: &'a Imports, from: &str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&str> = imports[from].keys().map(String::as_str).collect();
    while let Some(file) = open.pop() {
        if seen.insert(file) {
            open.extend(
                imports.get(file).into_iter().flat_map(|next| next.keys().map(String::as_str)),
            );
        }
    }
    seen
}

struct Graph {
    modules: HashMap<Segments, Module>,
}

impl Graph {
    fn taken_by(&self, module: &Module) -> Vec<(String, String)> {
        let first_words: HashSet<&str> =
            module.mentions.iter().map(|path| path[0].as_str()).collect();
        let is_used = |import: &&Import| {
            let name = import.name.as_deref();
            !import.is_passed_on || name.is_some_and(|name| first_words.contains(name))
        };
        let imported = module.imports.iter().filter(is_used).map(|import| import.target.clone());
        let mentioned = module
            .mentions
            .iter()
            .filter_map(|path| absolute(&module.path, path, &module.children));
        imported.chain(mentioned).filter_map(|target| self.definition(&target, 0)).collect()
    }

    /// The file that defines what `target` names, and its name there.
    fn definition(&self, target: &[String], depth: usize) -> Option<(String, String)> {
        let known = (0..=target.len())
            .rev()
            .find(|length| self.modules.contains_key(&target[..*length]))?;
        let module = &self.modules[&target[..known]];
        let Some(name) = target.get(known) else {
            return Some((module.file.clone(), "self".to_owned()));
        };
        if module.defined.contains(name) || depth > 8 {
            return Some((module.file.clone(), name.clone()));
        }
        let named = |import: &&Import| import.name.as_ref() == Some(name);
        if let Some(import) = module.imports.iter().find(named) {
            let rest = target[known + 1..].iter().cloned();
            let onward: Segments = import.target.iter().cloned().chain(rest).collect();
            return self.definition(&onward, depth + 1);
        }
        let through_glob =
            module.imports.iter().filter(|import| import.name.is_none()).find_map(|import| {
                let inside = self.modules.get(&import.target)?;
                let has_it = inside.defined.contains(name) || inside.children.contains(name);
                has_it.then(|| (inside.file.clone(), name.clone()))
            });
        Some(through_glob.unwrap_or_else(|| (module.file.clone(), name.clone())))
    }
}

impl Module {
    fn read(file: &str, text: &str) -> Self {
        let path = module_path(file);
        let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut module = Self {
            file: file.to_owned(),
            path,
            children: HashSet::new(),
            defined: HashSet::new(),
            imports: Vec::new(),
            mentions: BTreeSet::new(),
        };
        for item in &syntax.items {
            module.declare(item);
        }
        let mut mentions = Mentions { found: BTreeSet::new() };
        mentions.visit_file(&syntax);
        module.mentions = mentions.found;
        module
    }

    fn declare(&mut self, item: &Item) {
        match item {
            Item::Mod(inner) if inner.content.is_none() => {
                self.children.insert(inner.ident.to_string());
            }
            Item::Use(import) if !is_for_tests(&import.attrs) => {
                let is_passed_on = !matches!(import.vis, syn::Visibility::Inherited);
                self.import(&import.tree, Vec::new(), is_passed_on);
            }
            Item::Struct(item) => self.define(&item.ident),
            Item::Enum(item) => self.define(&item.ident),
            Item::Union(item) => self.define(&item.ident),
            Item::Trait(item) => self.define(&item.ident),
            Item::Type(item) => self.define(&item.ident),
            Item::Const(item) => self.define(&item.ident),
            Item::Static(item) => self.define(&item.ident),
            Item::Fn(item) => self.define(&item.sig.ident),
            Item::Macro(item) => item.ident.iter().for_each(|ident| self.define(ident)),
            _ => {}
        }
    }

    fn define(&mut self, ident: &syn::Ident) {
        self.defined.insert(ident.to_string());
    }

    fn import(&mut self, tree: &UseTree, mut so_far: Segments, is_passed_on: bool) {
        match tree {
            UseTree::Path(path) => {
                so_far.push(path.ident.to_string());
                self.import(&path.tree, so_far, is_passed_on);
            }
            UseTree::Group(group) => {
                for inner in &group.items {
                    self.import(inner, so_far.clone(), is_passed_on);
                }
            }
            UseTree::Name(leaf) if leaf.ident == "self" => {
                let name = so_far.last().cloned();
                self.add(name, so_far, is_passed_on);
            }
            UseTree::Name(leaf) => {
                so_far.push(leaf.ident.to_string());
                self.add(Some(leaf.ident.to_string()), so_far, is_passed_on);
            }
            UseTree::Rename(leaf) => {
                if leaf.ident != "self" {
                    so_far.push(leaf.ident.to_string());
                }
                self.add(Some(leaf.rename.to_string()), so_far, is_passed_on);
            }
            UseTree::Glob(_) => self.add(None, so_far, is_passed_on),
        }
    }

    fn add(&mut self, name: Option<String>, target: Segments, is_passed_on: bool) {
        if let Some(target) = absolute(&self.path, &target, &self.children) {
            self.imports.push(Import { name, target, is_passed_on });
        }
    }
}

/// The paths that a file's code mentions, without its tests and its `use` items.
struct Mentions {
    found: BTreeSet<Segments>,
}

impl<'ast> Visit<'ast> for Mentions {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Use(_) => return,
            _ => &[],
        };
        if !is_for_tests(attributes) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            syn::visit::visit_impl_item_fn(self, item);
        }
    }

    /// `pub(in crate::pipeline)` takes nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.found.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    let is_test = |attribute: &Attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            list.tokens.to_string().contains("test")
        }
        meta => meta.path().is_ident("test"),
    };
    attributes.iter().any(is_test)
}

/// `path` from the crate's root, as far as it begins with `crate`, `self`, `super` or a child module.
fn absolute(module: &[String], path: &[String], children: &HashSet<String>) -> Option<Segments> {
    let mut base: Segments = module.to_vec();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => {
            base.clear();
            rest = &path[1..];
        }
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|segment| segment == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        first if children.contains(first) => {}
        _ => return None,
    }
    // The value `self` names no one.
    if rest.is_empty() {
        return None;
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

/// `["sink", "postgres"]` of `sink/postgres/mod.rs` and of `sink/postgres.rs`.
fn module_path(file: &str) -> Segments {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    let is_root = matches!(path, "lib" | "main" | "mod");
    if is_root { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(sources: &[(&str, &str)]) -> Imports {
        let owned: Vec<_> =
            sources.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
        imports(&owned)
    }

    #[test]
    fn a_name_that_is_passed_on_leads_to_the_file_that_defines_it() {
        let imports = graph(&[
            ("lib.rs", "pub mod a; pub mod b;"),
            ("a/mod.rs", "mod inner; pub use inner::Thing;"),
            ("a/inner.rs", "pub struct Thing;"),
            ("b.rs", "use crate::a::Thing; fn f(_: Thing) {}"),
        ]);
        assert_eq!(imports["b.rs"].keys().collect::<Vec<_>>(), ["a/inner.rs"]);
        assert!(imports["a/mod.rs"].is_empty());
        assert!(circles(&imports).is_empty());
    }

    #[test]
    fn a_circle_through_three_files_and_a_path_without_a_use_is_found() {
        let imports = graph(&[
            ("lib.rs", "mod a; mod b; mod c; mod free;"),
            ("a.rs", "use super::b::B; pub struct A(B);"),
            ("b.rs", "pub struct B; fn f() { crate::c::g() }"),
            ("c.rs", "use crate::{a::A, free}; pub fn g() { let _: A = free::f(); }"),
            ("free.rs", "pub fn f() {}"),
        ]);
        assert_eq!(circles(&imports), [["a.rs", "b.rs", "c.rs"]]);
    }

    #[test]
    fn a_parent_that_uses_its_child_which_uses_the_parent_is_a_circle() {
        let imports = graph(&[
            ("lib.rs", "mod p;"),
            (
                "p/mod.rs",
                "mod child; pub use child::Child; pub const SIZE: usize = 1; fn f(_: Child) {}",
            ),
            ("p/child.rs", "use super::SIZE; pub struct Child([u8; SIZE]);"),
        ]);
        assert_eq!(circles(&imports), [["p/child.rs", "p/mod.rs"]]);
    }

    #[test]
    fn folders_that_take_from_each_other_are_a_circle_though_their_files_are_none() {
        let imports = graph(&[
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "pub mod low; pub mod high;"),
            ("a/low.rs", "pub struct Low;"),
            ("a/high.rs", "use crate::b::Middle; pub struct High(Middle);"),
            ("b.rs", "use crate::a::low::Low; pub struct Middle(Low);"),
        ]);
        assert!(circles(&imports).is_empty());
        assert_eq!(circles(&rooms(&imports, "")), [["a", "b"]]);
        assert!(circles(&rooms(&imports, "a")).is_empty());
        assert_eq!(folders(&imports), ["".to_owned(), "a".to_owned()].into());
    }

    #[test]
    fn what_only_tests_use_does_not_count() {
        let imports = graph(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }"),
            ("b.rs", "use crate::a::A; #[cfg(test)] use crate::a::A as C; pub struct B(A);"),
        ]);
        assert!(imports["a.rs"].is_empty());
        assert!(circles(&imports).is_empty());
    }
}
