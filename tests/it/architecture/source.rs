//! Source files, parsed.

use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Item};

/// A source file without its unit tests.
pub(super) struct Source {
    /// Its path below `src`, such as `hub/topic.rs`.
    pub(super) file: String,
    pub(super) syntax: syn::File,
    lines: usize,
}

impl Source {
    /// All source files in a folder that are not unit tests, in the order of their paths.
    pub(super) fn read_all(root: &str) -> Vec<Self> {
        let mut paths = Vec::new();
        find(Path::new(root), &mut paths);
        paths.sort();
        let read = |path: PathBuf| {
            let file = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            Self::parse(&file, &fs::read_to_string(&path).unwrap())
        };
        paths.into_iter().map(read).collect()
    }

    pub(super) fn parse(file: &str, text: &str) -> Self {
        let mut syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let first_test = syntax.items.iter().find(|item| is_test(attributes(item)));
        let lines = match first_test {
            // The line of the attribute is the first of the tests.
            Some(item) => item.span().start().line - 1,
            None => text.lines().count(),
        };
        // Files of unit tests are declared by their parent, and found by their name.
        if is_test_file(file) {
            syntax.items.clear();
        }
        remove_tests(&mut syntax.items);
        Self {
            file: file.to_owned(),
            syntax,
            lines,
        }
    }

    /// The path of its module: empty for the root of the library, `["main"]` for the program.
    pub(super) fn module(&self) -> Vec<String> {
        let path = self.file.trim_end_matches(".rs");
        match path {
            "lib" => Vec::new(),
            path => path.split('/').map(str::to_owned).collect(),
        }
    }

    /// The number of lines before its unit tests.
    pub(super) fn lines(&self) -> usize {
        if is_test_file(&self.file) {
            0
        } else {
            self.lines
        }
    }

    /// The names of the types that it defines.
    pub(super) fn type_names(&self) -> Vec<String> {
        let mut names = TypeNames(Vec::new());
        names.visit_file(&self.syntax);
        names.0
    }

    /// Its functions, each with the number of its lines.
    pub(super) fn functions(&self) -> Vec<(String, usize)> {
        let mut functions = Functions(Vec::new());
        functions.visit_file(&self.syntax);
        functions.0
    }
}

fn find(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn is_test_file(file: &str) -> bool {
    file.split('/')
        .any(|part| part.trim_end_matches(".rs") == "tests")
}

fn remove_tests(items: &mut Vec<Item>) {
    items.retain(|item| !is_test(attributes(item)));
    for item in items {
        if let Item::Mod(module) = item
            && let Some((_, items)) = &mut module.content
        {
            remove_tests(items);
        }
    }
}

/// Whether an item is compiled for unit tests only: `#[cfg(test)]`.
fn is_test(attributes: &[Attribute]) -> bool {
    let is_test = |attribute: &Attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|condition| condition.is_ident("test"))
    };
    attributes.iter().any(is_test)
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

struct TypeNames(Vec<String>);

impl Visit<'_> for TypeNames {
    fn visit_item(&mut self, item: &Item) {
        let name = match item {
            Item::Enum(item) => Some(&item.ident),
            Item::Struct(item) => Some(&item.ident),
            Item::Trait(item) => Some(&item.ident),
            Item::Type(item) => Some(&item.ident),
            Item::Union(item) => Some(&item.ident),
            _ => None,
        };
        self.0.extend(name.map(ToString::to_string));
        visit::visit_item(self, item);
    }
}

struct Functions(Vec<(String, usize)>);

impl Functions {
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (first, last) = (signature.span().start().line, block.span().end().line);
        self.0.push((signature.ident.to_string(), last - first + 1));
    }
}

impl Visit<'_> for Functions {
    fn visit_item_fn(&mut self, function: &syn::ItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &syn::ImplItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}
