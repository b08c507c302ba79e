//! A source file as the walls see it: what it names, defines and calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

use crate::walls::{NOT_PURE, PURE};

/// One source file without its tests.
pub struct Source {
    /// Below `src/`; of the crate in `api/` it begins with `api/`, as if it were a folder there.
    pub name: String,
    /// `engine::reconcile::start`; empty for the crate's root, `api` for that of the crate in `api/`.
    pub module: String,
    /// Absolute paths that it names, `crate::` left out for our own, each with the external ones.
    pub ours: BTreeSet<String>,
    pub others: BTreeSet<String>,
    /// Types that it defines, and those that it has an inherent `impl` of.
    pub defines: BTreeSet<String>,
    pub implements: BTreeSet<String>,
    /// Methods by the type that they belong to, and methods that are called on `self` there.
    pub methods: BTreeSet<(String, String)>,
    pub calls: BTreeSet<(String, String)>,
    pub is_async: bool,
    /// It imports by `*`.
    pub has_globs: bool,
}

pub fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let is_product = |name: &str| {
        let only_tests = ["api/compatibility.rs", "api/rules.rs", "dps/client_tests.rs"];
        name.ends_with(".rs") && !name.contains("tests") && !only_tests.contains(&name)
    };
    let mut found = Vec::new();
    for (folder, prefix) in [("src", ""), ("api/src", "api/")] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let mut files = Vec::new();
        walk(&root, &mut files);
        let name = |path: &Path| format!("{prefix}{}", path.strip_prefix(&root).unwrap().to_str().unwrap());
        found.extend(files.into_iter().map(|path| (name(&path), path)));
    }
    found.sort();
    let files = found.into_iter().filter(|(name, _)| is_product(name));
    files.map(|(name, path)| Source::parse(name, &fs::read_to_string(path).unwrap())).collect()
}

/// Where the file of this name is, below the repository.
pub fn path_of(name: &str) -> String {
    name.strip_prefix("api/").map_or_else(|| format!("src/{name}"), |rest| format!("api/src/{rest}"))
}

pub fn module_of(name: &str) -> String {
    let path = name.trim_end_matches(".rs").trim_end_matches("/mod").trim_end_matches("/lib");
    if ["lib", "main"].contains(&path) { String::new() } else { path.replace('/', "::") }
}

impl Source {
    pub fn parse(name: String, text: &str) -> Self {
        let module = module_of(&name);
        let mut source = Self {
            name,
            module,
            ours: BTreeSet::new(),
            others: BTreeSet::new(),
            defines: BTreeSet::new(),
            implements: BTreeSet::new(),
            methods: BTreeSet::new(),
            calls: BTreeSet::new(),
            is_async: false,
            has_globs: false,
        };
        let file = syn::parse_file(text).unwrap();
        let mut reader = Reader { source: &mut source, imports: BTreeMap::new(), of: None };
        reader.visit_file(&file);
        source
    }

    /// An absolute path for one that begins with `crate`, `super` or `self`, or that names our other crate.
    fn resolve(&self, path: &[String]) -> Option<String> {
        let mut module: Vec<&str> = self.module.split("::").filter(|part| !part.is_empty()).collect();
        let mut rest = path.iter().map(String::as_str).peekable();
        match rest.next()? {
            "crate" => module.truncate(usize::from(self.is_in(&["api/"]))),
            "dps_operator_api" => module = vec!["api"],
            "self" => {}
            "super" => {
                module.pop();
                while rest.next_if_eq(&"super").is_some() {
                    module.pop();
                }
            }
            _ => return None,
        }
        module.extend(rest);
        Some(module.join("::"))
    }

    pub fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.name.starts_with(place))
    }

    pub fn is_pure(&self) -> bool {
        self.is_in(PURE) && !self.is_in(NOT_PURE)
    }
}

/// Reads a file; leaves out what is compiled for tests only.
struct Reader<'a> {
    source: &'a mut Source,
    /// What a name stands for that a `use` has brought in.
    imports: BTreeMap<String, Vec<String>>,
    /// The type whose `impl` is being read.
    of: Option<String>,
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let cfg = attribute.path().is_ident("cfg");
        cfg && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    })
}

impl Reader<'_> {
    /// Runs of `name::name` among the tokens of a macro.
    fn tokens(&mut self, tokens: proc_macro2::TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                proc_macro2::TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.end_of_path(&mut path);
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                proc_macro2::TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.end_of_path(&mut path);
                    colons = 0;
                    if let proc_macro2::TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.end_of_path(&mut path);
    }

    fn end_of_path(&mut self, path: &mut Vec<String>) {
        if let [first, rest @ ..] = path.as_slice()
            && !rest.is_empty()
        {
            let imported = self.imports.get(first).cloned();
            let whole =
                imported.map_or_else(|| path.clone(), |imported| [imported.as_slice(), rest].concat());
            self.named(&whole);
        }
        path.clear();
    }

    fn named(&mut self, path: &[String]) {
        match self.source.resolve(path) {
            Some(ours) => drop(self.source.ours.insert(ours)),
            None => drop(self.source.others.insert(path.join("::"))),
        }
    }

    fn import(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.import(&with(&path.ident), &path.tree),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.import(prefix, item)),
            syn::UseTree::Glob(_) => {
                self.source.has_globs = true;
                self.named(prefix);
            }
            syn::UseTree::Name(name) => {
                let path = if name.ident == "self" { prefix.to_vec() } else { with(&name.ident) };
                self.imports.insert(path.last().cloned().unwrap_or_default(), path.clone());
                self.named(&path);
            }
            syn::UseTree::Rename(name) => {
                let path = if name.ident == "self" { prefix.to_vec() } else { with(&name.ident) };
                self.imports.insert(name.rename.to_string(), path.clone());
                self.named(&path);
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Struct(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&[], &item.tree);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.source.defines.insert(item.ident.to_string());
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.source.defines.insert(item.ident.to_string());
        visit::visit_item_enum(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let syn::Type::Path(path) = &*item.self_ty {
            self.of = path.path.segments.last().map(|segment| segment.ident.to_string());
        }
        if item.trait_.is_none() {
            self.source.implements.extend(self.of.clone());
        }
        visit::visit_item_impl(self, item);
        self.of = None;
    }

    fn visit_impl_item_fn(&mut self, method: &'ast syn::ImplItemFn) {
        if is_for_tests(&method.attrs) {
            return;
        }
        self.source.is_async |= method.sig.asyncness.is_some();
        if let Some(of) = &self.of {
            self.source.methods.insert((of.clone(), method.sig.ident.to_string()));
        }
        visit::visit_impl_item_fn(self, method);
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.source.is_async |= function.sig.asyncness.is_some();
        visit::visit_item_fn(self, function);
    }

    fn visit_expr_async(&mut self, block: &'ast syn::ExprAsync) {
        self.source.is_async = true;
        visit::visit_expr_async(self, block);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let on_self = matches!(&*call.receiver, syn::Expr::Path(path) if path.path.is_ident("self"));
        if let Some(of) = self.of.as_ref().filter(|_| on_self) {
            self.source.calls.insert((of.clone(), call.method.to_string()));
        }
        visit::visit_expr_method_call(self, call);
    }

    /// A path in code: absolute, or beginning with a name that a `use` has brought in.
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let first = parts.first().cloned().unwrap_or_default();
        if let Some(imported) = self.imports.get(&first).filter(|_| parts.len() > 1) {
            let whole = [imported, &parts[1..]].concat();
            self.named(&whole);
        } else if parts.len() > 1 {
            self.named(&parts);
        }
        visit::visit_path(self, path);
    }

    /// Names in macros: `info!(…)` itself, and paths among its arguments, which are not parsed.
    fn visit_macro(&mut self, invoked: &'ast syn::Macro) {
        let parts: Vec<String> =
            invoked.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let Some(imported) = self.imports.get(&parts[0]).cloned() {
            self.named(&imported);
        }
        self.tokens(invoked.tokens.clone());
        visit::visit_macro(self, invoked);
    }

    /// `Engine::method(self)` is a call like `self.method()`.
    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let (Some(of), syn::Expr::Path(path)) = (&self.of, &*call.func) {
            let parts: Vec<String> = path.path.segments.iter().map(|part| part.ident.to_string()).collect();
            if let [ty, method] = parts.as_slice()
                && (ty == "Self" || ty == of)
            {
                self.source.calls.insert((of.clone(), method.clone()));
            }
        }
        visit::visit_expr_call(self, call);
    }
}
