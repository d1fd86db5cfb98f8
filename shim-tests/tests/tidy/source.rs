//! Rust files, parsed.

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::tree;

/// One parsed file.
pub(crate) struct Source {
    pub(crate) path: String,
    text: String,
    file: syn::File,
    tokens: TokenStream,
}

/// Where a function is and how long.
pub(crate) struct Function {
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

/// Every Rust file of the workspace.
pub(crate) fn all() -> Vec<Source> {
    let rust = tree::files().into_iter().filter(|file| file.path.ends_with(".rs"));
    rust.map(|file| parse(file.path)).collect()
}

fn parse(path: String) -> Source {
    let text = tree::read(&path);
    let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    let tokens = text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
    Source { path, text, file, tokens }
}

impl Source {
    /// Its functions and methods, those of tests included.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut functions = Functions { path: &self.path, found: Vec::new() };
        functions.visit_file(&self.file);
        functions.found
    }

    /// The lines where `unsafe` begins something other than an attribute, within
    /// macros too.
    pub(crate) fn unsafe_lines(&self) -> Vec<usize> {
        let mut lines = Vec::new();
        find_unsafe(self.tokens.clone(), false, &mut lines);
        lines
    }

    /// The lines of unsafe blocks and impls above which no comment gives the reason.
    pub(crate) fn unsafe_blocks_without_reason(&self) -> impl Iterator<Item = usize> {
        let mut blocks = Vec::new();
        find_unsafe(self.tokens.clone(), true, &mut blocks);
        blocks.into_iter().filter(|&line| !self.has_reason(line))
    }

    /// True when the line that allows unsafe code in this file goes on with a reason.
    pub(crate) fn says_why_unsafe(&self) -> bool {
        let allow = "#![allow(unsafe_code)] // ";
        self.text.lines().any(|line| line.starts_with(allow) && line.len() > allow.len() + 8)
    }

    /// True when a SAFETY comment stands above the statement that this line is of:
    /// within eight lines, and with no empty line between.
    fn has_reason(&self, line: usize) -> bool {
        let lines: Vec<&str> = self.text.lines().take(line).collect();
        let near = lines.iter().rev().take(9).take_while(|text| !text.trim().is_empty());
        near.into_iter().any(|text| text.contains("SAFETY:"))
    }

    /// The lines that name `std` outside test modules.
    pub(crate) fn std_outside_tests(&self) -> Vec<usize> {
        if self.path.ends_with("/tests.rs") || self.path.contains("/tests/") {
            return Vec::new();
        }
        let mut lines = Vec::new();
        let items = self.file.items.iter().filter(|item| !is_test_item(item));
        for item in items {
            find_ident(quote_of(item), "std", &mut lines);
        }
        lines
    }
}

struct Functions<'a> {
    path: &'a str,
    found: Vec<Function>,
}

impl Functions<'_> {
    fn note(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let begin = signature.span().start().line;
        let end = block.span().end().line;
        self.found.push(Function {
            path: self.path.to_owned(),
            name: signature.ident.to_string(),
            line: begin,
            lines: end - begin + 1,
        });
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.note(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.note(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.note(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

/// Lines of `unsafe` followed by a block or an impl (`only_claims`), or by anything
/// but the parenthesis of `#[unsafe(...)]` and `extern` (an attribute and a
/// declaration claim nothing that runs).
fn find_unsafe(tokens: TokenStream, only_claims: bool, lines: &mut Vec<usize>) {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    for (index, tree) in trees.iter().enumerate() {
        match tree {
            TokenTree::Group(group) => find_unsafe(group.stream(), only_claims, lines),
            TokenTree::Ident(ident) if ident == "unsafe" => {
                let claims = matches!(trees.get(index + 1), Some(TokenTree::Group(group))
                    if group.delimiter() == proc_macro2::Delimiter::Brace)
                    || matches!(trees.get(index + 1), Some(TokenTree::Ident(next)) if next == "impl");
                let attribute = matches!(trees.get(index + 1), Some(TokenTree::Group(group))
                    if group.delimiter() == proc_macro2::Delimiter::Parenthesis);
                if claims || (!only_claims && !attribute) {
                    lines.push(ident.span().start().line);
                }
            }
            _ => {}
        }
    }
}

fn find_ident(tokens: TokenStream, name: &str, lines: &mut Vec<usize>) {
    for tree in tokens {
        match tree {
            TokenTree::Group(group) => find_ident(group.stream(), name, lines),
            TokenTree::Ident(ident) if ident == name => lines.push(ident.span().start().line),
            _ => {}
        }
    }
}

fn quote_of(item: &syn::Item) -> TokenStream {
    quote::ToTokens::to_token_stream(item)
}

/// True for an item under `#[cfg(test)]`.
fn is_test_item(item: &syn::Item) -> bool {
    let attributes = match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::ExternCrate(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}
