//! The walls of the house: which part may use which, and what has no place in pure code. The sources
//! are parsed, so that types count and not words. CONTRIBUTING.md has the table for people.

// All of it is test code: panics are how it fails.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// A folder or file, and the only parts of ours that it may use. The longest entry that fits counts.
const MAY_USE: &[(&str, &[&str])] = &[
    ("api/", &["api"]),
    ("clock.rs", &[]),
    ("config.rs", &["dps::host"]),
    ("dps/", &["clock", "dps"]),
    ("fleet/", &["api", "dps::attestation", "fleet"]),
    ("schedule/", &["api::conditions", "dps::ids", "schedule"]),
    ("controller/mod.rs", &[]),
    // What is decided, rendered and read back.
    ("controller/", &["api", "controller", "dps", "fleet", "schedule"]),
    // What is done.
    ("controller/device/act.rs", &["api", "clock", "controller", "dps", "fleet", "kube_io"]),
    ("kube_io/", &["api", "clock", "kube_io", "schedule", "telemetry"]),
    (
        "engine/",
        &[
            "api",
            "clock",
            "config",
            "controller",
            "dps",
            "engine",
            "fleet",
            "kube_io",
            "schedule",
            "telemetry",
        ],
    ),
    ("telemetry/", &["telemetry"]),
    ("cli.rs", &["config", "dps::host", "dps::ids"]),
    ("app.rs", &["api", "cli", "clock", "config", "engine", "kube_io", "telemetry"]),
    ("lib.rs", &["kube_io::write"]),
    ("main.rs", &[]),
];

/// Walls inside a folder: what a part of it may not use of its neighbours.
const MAY_NOT_USE: &[(&str, &[&str])] = &[
    // Owners never call each other, nor the engine: they return what should follow.
    (
        "engine/devices/",
        &[
            "engine::integrations",
            "engine::observe",
            "engine::reconcile",
            "engine::Engine",
            "engine::Context",
            "engine::Message",
        ],
    ),
    (
        "engine/integrations/",
        &[
            "engine::devices",
            "engine::observe",
            "engine::reconcile",
            "engine::Engine",
            "engine::Context",
            "engine::Message",
        ],
    ),
    (
        "engine/publish.rs",
        &["engine::devices", "engine::integrations", "engine::reconcile", "engine::Engine"],
    ),
    // What is observed is taken in and not acted upon.
    ("engine/observe/", &["engine::reconcile", "controller::device"]),
    // An integration does not know its devices.
    ("controller/integration/", &["controller::device"]),
    // Kinds of credentials are known to their folder and to what is written for people and devices.
    ("engine/", &["dps::attestation::symmetric_key", "dps::attestation::Proof"]),
    ("controller/integration/", &["dps::attestation::Proof"]),
    ("fleet/", &["dps::attestation::symmetric_key", "dps::attestation::Proof"]),
];

/// Data and decisions: no client, no clock, no task, no log, and nothing of ours that is not pure.
const PURE: &[&str] = &[
    "api/",
    "config.rs",
    "controller/",
    "dps/answer.rs",
    "dps/attestation/",
    "dps/error.rs",
    "dps/host.rs",
    "dps/ids.rs",
    "dps/retry_after.rs",
    "dps/tls.rs",
    "dps/wire.rs",
    "engine/devices/",
    "engine/integrations/change.rs",
    "engine/integrations/namespaces.rs",
    "engine/observe/sync.rs",
    "fleet/",
    "kube_io/lease/decide.rs",
    "schedule/",
];
const NOT_PURE: &[&str] = &["controller/device/act.rs"];

/// Handles of tasks are data: what is in flight can be aborted by its owner.
const PURE_ALL_THE_SAME: &[&str] = &["tokio::task::AbortHandle"];

/// Types and functions of others that pure code may not name.
const IMPURE: &[&str] = &[
    "kube::Client",
    "kube::Api",
    "kube::api",
    "kube::client",
    "kube_runtime",
    "reqwest",
    "std::fs",
    "std::net::TcpStream",
    "std::time::Instant::now",
    "std::time::SystemTime",
    "tokio::net",
    "tokio::spawn",
    "tokio::sync",
    "tokio::task",
    "tokio::time::sleep",
    "tokio::time::sleep_until",
    "tokio::time::timeout",
    "tokio::time::timeout_at",
    "tokio::time::Instant::now",
    "jiff::Timestamp::now",
    "tracing",
];

/// The only files that ask what time it is.
const ASK_THE_TIME: &[&str] = &[
    "app.rs",
    "clock.rs",
    "controller/device/act.rs",
    "dps/client.rs",
    "engine/mod.rs",
    "kube_io/",
    "telemetry/health.rs",
];

/// The only files that start tasks.
const START_TASKS: &[&str] = &[
    "app.rs",
    "engine/observe/watches.rs",
    "engine/reconcile/start.rs",
    "engine/reports.rs",
    "kube_io/events.rs",
    "kube_io/refs.rs",
    "telemetry/server.rs",
];

/// One source file without its tests.
struct Source {
    /// Below `src/`.
    name: String,
    /// `engine::reconcile::start`; empty for the crate's root.
    module: String,
    /// Absolute paths that it names, `crate::` left out for our own, each with the external ones.
    ours: BTreeSet<String>,
    others: BTreeSet<String>,
    /// Types that it defines, and those that it has an inherent `impl` of.
    defines: BTreeSet<String>,
    implements: BTreeSet<String>,
    /// Methods by the type that they belong to, and methods that are called on `self` there.
    methods: BTreeSet<(String, String)>,
    calls: BTreeSet<(String, String)>,
    is_async: bool,
    /// It imports by `*`.
    has_globs: bool,
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    let name = |path: &Path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    let is_product = |name: &str| {
        let only_tests = ["api/compatibility.rs", "api/rules.rs", "dps/client_tests.rs"];
        name.ends_with(".rs") && !name.contains("tests") && !only_tests.contains(&name)
    };
    let files = files.into_iter().map(|path| (name(&path), path)).filter(|(name, _)| is_product(name));
    files.map(|(name, path)| Source::parse(name, &fs::read_to_string(path).unwrap())).collect()
}

fn module_of(name: &str) -> String {
    let path = name.trim_end_matches(".rs").trim_end_matches("/mod");
    if ["lib", "main"].contains(&path) { String::new() } else { path.replace('/', "::") }
}

impl Source {
    fn parse(name: String, text: &str) -> Self {
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

    /// An absolute path for one that begins with `crate`, `super` or `self`.
    fn resolve(&self, path: &[String]) -> Option<String> {
        let mut module: Vec<&str> = self.module.split("::").filter(|part| !part.is_empty()).collect();
        let mut rest = path.iter().map(String::as_str).peekable();
        match rest.next()? {
            "crate" => module.clear(),
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

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.name.starts_with(place))
    }

    fn is_pure(&self) -> bool {
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
        } else if ["crate", "super", "self"].contains(&first.as_str()) && parts.len() > 1 || parts.len() > 1 {
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

fn begins_with(path: &str, part: &str) -> bool {
    path == part || path.strip_prefix(part).is_some_and(|rest| rest.starts_with("::"))
}

/// The longest module that is the beginning of the path.
fn file_of<'a>(sources: &'a [Source], path: &str) -> Option<&'a Source> {
    let fitting =
        sources.iter().filter(|source| !source.module.is_empty() && begins_with(path, &source.module));
    fitting.max_by_key(|source| source.module.len())
}

fn allowed(file: &str) -> &'static [&'static str] {
    let fitting = MAY_USE.iter().filter(|(prefix, _)| file.starts_with(prefix));
    fitting.max_by_key(|(prefix, _)| prefix.len()).unwrap_or_else(|| panic!("{file} is not in the table")).1
}

/// A circle among the edges, if there is one: the names that are left when every name without an edge
/// to one that is left has been taken away, again and again.
fn circle(edges: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut left: BTreeSet<String> = edges.keys().cloned().collect();
    loop {
        let ends: Vec<String> = left.iter().filter(|name| edges[*name].is_disjoint(&left)).cloned().collect();
        if ends.is_empty() {
            return left;
        }
        left.retain(|name| !ends.contains(name));
    }
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for source in sources() {
        for path in &source.ours {
            let may = allowed(&source.name).iter().any(|may| begins_with(path, may));
            // A module by its name alone is used by what is named of it.
            let is_module = MAY_USE.iter().any(|(place, _)| module_of(place.trim_end_matches('/')) == *path);
            if !may && !begins_with(path, &source.module) && (path.contains("::") || !is_module) {
                wrong.push(format!("{} uses {path}", source.name));
            }
        }
        if source.has_globs {
            wrong.push(format!("{} imports with a glob, which hides what it uses", source.name));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn walls_inside_a_folder_hold() {
    let sources = sources();
    let mut wrong = Vec::new();
    for source in &sources {
        let walls = MAY_NOT_USE.iter().filter(|(prefix, _)| source.name.starts_with(prefix));
        for wall in walls.flat_map(|(_, walls)| *walls) {
            let through = source.ours.iter().filter(|path| begins_with(path, wall));
            wrong.extend(through.map(|path| format!("{} uses {path}", source.name)));
            let called = source.calls.iter().filter(|call| {
                let homes = sources.iter().filter(|home| home.methods.contains(call));
                homes.clone().count() == 1 && homes.clone().all(|home| begins_with(&home.module, wall))
            });
            wrong.extend(called.map(|(of, method)| format!("{} calls {of}::{method}", source.name)));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn no_file_uses_one_that_uses_it() {
    let sources = sources();
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in &sources {
        let used = source.ours.iter().filter_map(|path| file_of(&sources, path));
        // A folder's own file and what it contains are one room.
        let others = used.filter(|used| {
            !begins_with(&used.module, &source.module) && !begins_with(&source.module, &used.module)
        });
        edges.insert(source.name.clone(), others.map(|used| used.name.clone()).collect());
    }
    assert_eq!(circle(&edges), BTreeSet::new());
}

#[test]
fn methods_of_one_type_in_several_files_call_each_other_one_way_only() {
    let sources = sources();
    let spread: BTreeSet<&String> = sources.iter().flat_map(|source| &source.implements).collect();
    for of in spread {
        let home = |method: &str| {
            sources.iter().find(|source| source.methods.contains(&(of.clone(), method.to_owned())))
        };
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for source in sources.iter().filter(|source| source.implements.contains(of)) {
            let called = source.calls.iter().filter(|(caller, _)| caller == of);
            let homes = called.filter_map(|(_, method)| home(method)).filter(|home| home.name != source.name);
            edges.insert(source.name.clone(), homes.map(|home| home.name.clone()).collect());
        }
        assert_eq!(circle(&edges), BTreeSet::new(), "methods of {of}");
    }
}

#[test]
fn a_type_has_its_methods_in_its_own_file_or_folder() {
    let sources = sources();
    let mut wrong = Vec::new();
    for source in &sources {
        for of in &source.implements {
            let homes = sources.iter().filter(|home| home.defines.contains(of));
            let fits = homes.clone().any(|home| {
                let folder = home.name.strip_suffix("mod.rs");
                home.name == source.name || folder.is_some_and(|folder| source.name.starts_with(folder))
            });
            // Lifetimes and generics do not matter; a type of others has no home.
            if homes.count() > 0 && !fits {
                wrong.push(format!("{} has methods of {of}", source.name));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn pure_code_has_no_client_no_clock_no_task_and_no_log() {
    let sources = sources();
    let mut wrong = Vec::new();
    for source in sources.iter().filter(|source| source.is_pure()) {
        let others =
            source.others.iter().filter(|path| !PURE_ALL_THE_SAME.iter().any(|part| begins_with(path, part)));
        let impure = others.filter(|path| IMPURE.iter().any(|part| begins_with(path, part)));
        wrong.extend(impure.map(|path| format!("{} names {path}", source.name)));
        if source.is_async {
            wrong.push(format!("{} is asynchronous", source.name));
        }
        let clock = source.ours.iter().filter(|path| begins_with(path, "clock::now"));
        wrong.extend(clock.map(|path| format!("{} names {path}", source.name)));
        // `clock::Now` is a value like any other.
        let used = source.ours.iter().filter(|path| !begins_with(path, "clock"));
        let not_pure = used.filter_map(|path| file_of(&sources, path)).filter(|used| {
            !used.is_pure() && !begins_with(&source.module, &used.module) && !is_a_folder_of_pure_code(used)
        });
        wrong.extend(not_pure.map(|used| format!("{} uses {}, which is not pure", source.name, used.name)));
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// After a file was renamed, a wall that names it would be silent.
#[test]
fn every_place_in_the_tables_exists() {
    let sources = sources();
    let places = MAY_USE.iter().chain(MAY_NOT_USE).map(|(place, _)| *place);
    let lists = [PURE, NOT_PURE, ASK_THE_TIME, START_TASKS];
    let all = places.chain(lists.into_iter().flatten().copied());
    let gone = all.filter(|place| !sources.iter().any(|source| source.name.starts_with(place)));
    assert_eq!(gone.collect::<Vec<_>>(), Vec::<&str>::new());
    let walls = MAY_NOT_USE.iter().flat_map(|(_, walls)| *walls);
    let unknown = walls.filter(|wall| {
        let (module, name) = wall.rsplit_once("::").unwrap();
        let is_module = sources.iter().any(|source| begins_with(&source.module, wall));
        let has_type = sources.iter().any(|source| source.module == module && source.defines.contains(name));
        !is_module && !has_type
    });
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&&str>::new());
}

/// A folder's file that only lists what is in the folder.
fn is_a_folder_of_pure_code(source: &Source) -> bool {
    source.name.ends_with("/mod.rs") && source.methods.is_empty() && source.defines.is_empty()
}

#[test]
fn few_files_ask_the_time_and_few_start_tasks() {
    let mut wrong = Vec::new();
    for source in sources() {
        let clocks = ["tokio::time::Instant::now", "std::time::Instant::now", "jiff::Timestamp::now"];
        let reads_a_clock = clocks.iter().any(|clock| source.others.contains(*clock));
        if (source.ours.contains("clock::now") || reads_a_clock) && !source.is_in(ASK_THE_TIME) {
            wrong.push(format!("{} asks the time", source.name));
        }
        let starts = [
            "std::thread::spawn",
            "tokio::spawn",
            "tokio::task::spawn",
            "tokio::task::spawn_blocking",
            "tokio::task::JoinSet",
        ];
        if source.others.iter().any(|path| starts.iter().any(|start| begins_with(path, start)))
            && !source.is_in(START_TASKS)
        {
            wrong.push(format!("{} starts tasks", source.name));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// The standard library, then other crates, then ours.
fn import_group(item: &syn::Item) -> Option<u8> {
    let syn::Item::Use(item) = item else { return None };
    let syn::UseTree::Path(path) = &item.tree else { return None };
    Some(match path.ident.to_string().as_str() {
        "std" => 0,
        "crate" | "self" | "super" => 2,
        _ => 1,
    })
}

#[test]
fn imports_stand_in_groups() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for source in sources() {
        let file = syn::parse_file(&fs::read_to_string(root.join(&source.name)).unwrap()).unwrap();
        let groups: Vec<u8> = file.items.iter().filter_map(import_group).collect();
        if !groups.is_sorted() {
            wrong.push(source.name);
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_table_in_contributing_names_every_part() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let contributing = fs::read_to_string(root.join("CONTRIBUTING.md")).unwrap();
    let missing: Vec<_> = MAY_USE
        .iter()
        .map(|(file, _)| format!("`src/{file}`"))
        .filter(|name| !contributing.contains(name.as_str()))
        .collect();
    assert_eq!(missing, Vec::<String>::new());
}

/// What is forbidden would be found: in a source made for that.
#[test]
fn paths_are_found_however_they_are_written() {
    let text = "
        use super::decide::{self, Step};
        use crate::{clock, fleet::record as kept};
        use tokio::time::Instant;
        use tracing::info;
        impl Engine { fn a(&self) { self.b(); Self::c(self); clock::now(); info!(\"x\", kept::Record::new()); } }
        #[cfg(test)]
        mod tests { use crate::cli::Cli; }
    ";
    let source = Source::parse("engine/reconcile/start.rs".to_owned(), text);
    let ours: Vec<&str> = source.ours.iter().map(String::as_str).collect();
    assert_eq!(
        ours,
        [
            "clock",
            "clock::now",
            "engine::reconcile::decide",
            "engine::reconcile::decide::Step",
            "fleet::record",
            "fleet::record::Record::new",
        ]
    );
    assert!(source.others.contains("tokio::time::Instant") && source.others.contains("tracing::info"));
    let calls: Vec<&str> = source.calls.iter().map(|(_, method)| method.as_str()).collect();
    assert_eq!(calls, ["b", "c"]);
}

#[test]
fn a_circle_would_be_found() {
    let edges = |pairs: &[(&str, &[&str])]| -> BTreeMap<String, BTreeSet<String>> {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        pairs.iter().map(|(from, to)| ((*from).to_owned(), texts(to))).collect()
    };
    assert!(circle(&edges(&[("a", &["b"]), ("b", &["c"]), ("c", &[])])).is_empty());
    assert_eq!(circle(&edges(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])])).len(), 3);
}
