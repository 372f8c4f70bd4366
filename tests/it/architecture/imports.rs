//! Which source file imports from which, with every path followed to the file that defines the item.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Ident, Item, ItemUse, Macro, UseTree, Visibility};

use super::source::Source;

/// The name of the library, by which the program imports from it.
const LIBRARY: &str = "comfy_relay";

/// The segments that only begin a path.
const KEYWORDS: [&str; 3] = ["crate", "self", "super"];

/// How many re-exports a path may lead through: they could lead in a circle.
const MAX_REEXPORTS: usize = 16;

/// The path of a module below the root of the crate.
type ModulePath = Vec<String>;

/// A module of the crate, in a file of its own or inline.
#[derive(Default)]
struct Module {
    file: String,
    /// The items that it defines, other than modules.
    items: BTreeSet<String>,
    uses: Vec<Use>,
    /// Every path in its code outside of `use`.
    paths: Vec<Vec<String>>,
}

/// One leaf of a `use` tree.
struct Use {
    path: Vec<String>,
    /// The name that it has here; `None` for a glob.
    name: Option<String>,
    /// Other modules may import it from here.
    is_reexport: bool,
}

/// What a path leads to.
enum Target {
    Module(ModulePath),
    /// An item of a module.
    Item(ModulePath),
}

/// The imports between source files: of each file, those that it imports from, with one path each.
pub(super) struct Imports {
    edges: BTreeMap<String, BTreeMap<String, String>>,
}

impl Imports {
    pub(super) fn of(sources: &[Source]) -> Self {
        let modules = Modules::of(sources);
        let mut edges: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (path, module) in &modules.0 {
            let targets = edges.entry(module.file.clone()).or_default();
            targets.extend(modules.imported_files(path, module));
            targets.remove(&module.file);
        }
        Self { edges }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.edges.keys().map(String::as_str)
    }

    /// Every import, as the importing and the imported file.
    pub(super) fn edges(&self) -> impl Iterator<Item = (&str, &str)> {
        self.edges.iter().flat_map(|(from, targets)| {
            let targets = targets.keys();
            targets.map(move |to| (from.as_str(), to.as_str()))
        })
    }

    /// The path by which a file imports from another.
    pub(super) fn path(&self, from: &str, to: &str) -> &str {
        &self.edges[from][to]
    }

    /// The files that a file imports, directly or through others.
    pub(super) fn reachable_from(&self, file: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut open = vec![file];
        while let Some(file) = open.pop() {
            for target in self.edges[file].keys() {
                if reached.insert(target.as_str()) {
                    open.push(target);
                }
            }
        }
        reached
    }
}

/// All modules of the crate.
struct Modules(BTreeMap<ModulePath, Module>);

impl Modules {
    fn of(sources: &[Source]) -> Self {
        let root = Module {
            file: "lib.rs".to_owned(),
            ..Module::default()
        };
        let mut modules = Self(BTreeMap::from([(Vec::new(), root)]));
        for source in sources {
            modules.add(source.module(), &source.file, &source.syntax.items);
        }
        modules
    }

    fn add(&mut self, path: ModulePath, file: &str, items: &[Item]) {
        let mut module = Module {
            file: file.to_owned(),
            ..Module::default()
        };
        for item in items {
            if let Item::Mod(inline) = item {
                if let Some((_, items)) = &inline.content {
                    let path = [path.as_slice(), &[inline.ident.to_string()]].concat();
                    self.add(path, file, items);
                }
                continue;
            }
            module.items.extend(defined_name(item));
            module.visit_item(item);
        }
        self.0.insert(path, module);
    }

    /// The files from which a module imports, with one path each.
    fn imported_files(&self, path: &ModulePath, module: &Module) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        for used in &module.uses {
            let Some(target) = self.resolve(path, &used.path, 0) else {
                continue;
            };
            // A re-export of a child's item counts where it is used.
            let is_of_child = target.module().starts_with(path);
            if !(used.is_reexport && is_of_child) {
                let file = self.0[target.module()].file.clone();
                files.insert(file, used.path.join("::"));
            }
        }
        for used in &module.paths {
            // A single name can also be a visibility, or a variable that is named like a child.
            let is_module = match used.as_slice() {
                [name] => KEYWORDS.contains(&name.as_str()) || self.child(path, name).is_some(),
                _ => false,
            };
            if !is_module && let Some(target) = self.resolve(path, used, 0) {
                let file = self.0[target.module()].file.clone();
                files.insert(file, used.join("::"));
            }
        }
        files
    }

    fn child(&self, parent: &ModulePath, name: &str) -> Option<ModulePath> {
        let child = [parent.as_slice(), &[name.to_owned()]].concat();
        self.0.contains_key(&child).then_some(child)
    }

    /// Follows a path from a module; `None` where it leads to another crate or nowhere.
    fn resolve(&self, from: &ModulePath, path: &[String], reexports: usize) -> Option<Target> {
        let mut module = from.clone();
        let mut rest = path;
        let mut is_anchored = false;
        while let [first, others @ ..] = rest {
            match first.as_str() {
                "crate" => module.clear(),
                "super" => drop(module.pop()),
                "self" => {}
                // Alone it is another name, such as that of a database schema.
                LIBRARY if !is_anchored && !others.is_empty() => module.clear(),
                _ => break,
            }
            is_anchored = true;
            rest = others;
        }
        if !self.0.contains_key(&module) {
            return None;
        }
        while let [name, others @ ..] = rest {
            if let Some(child) = self.child(&module, name) {
                module = child;
            } else if self.0[&module].items.contains(name) {
                return Some(Target::Item(module));
            } else {
                return match self.resolve_imported(&module, name, reexports) {
                    Some(Target::Module(imported)) if !others.is_empty() => {
                        let rest = [&["self".to_owned()], others].concat();
                        self.resolve(&imported, &rest, reexports + 1)
                    }
                    Some(target) => Some(target),
                    // What is not an item is a part of one, such as a variant.
                    None => is_anchored.then_some(Target::Item(module)),
                };
            }
            is_anchored = true;
            rest = others;
        }
        Some(Target::Module(module))
    }

    /// Follows a name that a module has imported.
    fn resolve_imported(
        &self,
        module: &ModulePath,
        name: &str,
        reexports: usize,
    ) -> Option<Target> {
        if reexports == MAX_REEXPORTS {
            return None;
        }
        let uses = &self.0[module].uses;
        let named = uses.iter().find(|used| used.name.as_deref() == Some(name));
        if let Some(used) = named {
            return self.resolve(module, &used.path, reexports + 1);
        }
        let globs = uses.iter().filter(|used| used.name.is_none());
        globs
            .filter_map(
                |used| match self.resolve(module, &used.path, reexports + 1) {
                    Some(Target::Module(source)) if source != *module => Some(source),
                    _ => None,
                },
            )
            .find_map(|source| self.find_in(&source, name, reexports + 1))
    }

    /// The target of a name that a module has, defined or imported.
    fn find_in(&self, module: &ModulePath, name: &str, reexports: usize) -> Option<Target> {
        if let Some(child) = self.child(module, name) {
            return Some(Target::Module(child));
        }
        if self.0[module].items.contains(name) {
            return Some(Target::Item(module.clone()));
        }
        self.resolve_imported(module, name, reexports)
    }
}

impl Target {
    fn module(&self) -> &ModulePath {
        match self {
            Self::Module(path) | Self::Item(path) => path,
        }
    }
}

impl Visit<'_> for Module {
    fn visit_item_use(&mut self, item: &ItemUse) {
        let is_reexport = !matches!(item.vis, Visibility::Inherited);
        self.add_uses(&item.tree, &mut Vec::new(), is_reexport);
    }

    /// `pub(super)` is not an import.
    fn visit_visibility(&mut self, _: &Visibility) {}

    fn visit_path(&mut self, path: &syn::Path) {
        let segments = path.segments.iter();
        let names = segments.map(|segment| segment.ident.to_string());
        self.paths.push(names.collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &Macro) {
        self.visit_path(&call.path);
        self.add_paths_in(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &Attribute) {
        match &attribute.meta {
            syn::Meta::List(list) => self.add_paths_in(list.tokens.clone()),
            syn::Meta::NameValue(pair) if !attribute.path().is_ident("doc") => {
                self.visit_expr(&pair.value);
            }
            _ => {}
        }
    }
}

impl Module {
    fn add_uses(&mut self, tree: &UseTree, path: &mut Vec<String>, is_reexport: bool) {
        let mut add = |path: Vec<String>, name: Option<&Ident>| {
            self.uses.push(Use {
                path,
                name: name.map(ToString::to_string),
                is_reexport,
            });
        };
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.add_uses(&part.tree, path, is_reexport);
                path.pop();
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_uses(tree, path, is_reexport);
                }
            }
            UseTree::Glob(_) => add(path.clone(), None),
            UseTree::Name(leaf) if leaf.ident == "self" => {
                let name = path.last().cloned();
                self.uses.push(Use {
                    path: path.clone(),
                    name,
                    is_reexport,
                });
            }
            UseTree::Name(leaf) => {
                let full = [path.as_slice(), &[leaf.ident.to_string()]].concat();
                add(full, Some(&leaf.ident));
            }
            UseTree::Rename(leaf) => {
                let mut full = path.clone();
                if leaf.ident != "self" {
                    full.push(leaf.ident.to_string());
                }
                add(full, Some(&leaf.rename));
            }
        }
    }

    /// Adds the paths in the tokens of a macro or an attribute, also those in string literals that name
    /// one, as `#[serde(with = "…")]` does.
    fn add_paths_in(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        // How many colons have followed the last name.
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 && !path.is_empty() {
                        self.paths.push(std::mem::take(&mut path));
                    }
                    path.push(name.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(sign) if sign.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => self.add_paths_in(group.stream()),
                TokenTree::Literal(literal) => self.add_path_in_string(&literal.to_string()),
                TokenTree::Punct(_) => {}
            }
            if !path.is_empty() {
                self.paths.push(std::mem::take(&mut path));
            }
            colons = 0;
        }
        if !path.is_empty() {
            self.paths.push(path);
        }
    }

    fn add_path_in_string(&mut self, literal: &str) {
        if let Ok(text) = syn::parse_str::<syn::LitStr>(literal)
            && let Ok(path) = text.parse::<syn::Path>()
            && path.segments.len() > 1
        {
            self.visit_path(&path);
        }
    }
}

fn defined_name(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}
