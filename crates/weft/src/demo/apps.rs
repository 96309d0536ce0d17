//! The programs of the demo shop: small HTTP servers that call each other by service name, knowing nothing of the mesh.

use super::http::{self, Outgoing};
use ::http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use std::{
    cell::Cell,
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    rc::Rc,
};

/// One program: what it is called, and whom it calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct App {
    pub(crate) service: &'static str,
    pub(crate) version: &'static str,
    pub(crate) port: u16,
    pub(crate) calls: &'static [(&'static str, u16)],
}

const PORT: u16 = 8080;

/// The shop. Seven services, one of them in three versions.
pub(crate) const SHOP: &[App] = &[
    App {
        service: "frontend",
        version: "v1",
        port: PORT,
        calls: &[("catalog", PORT), ("cart", PORT), ("reviews", PORT), ("checkout", PORT)],
    },
    App { service: "catalog", version: "v1", port: PORT, calls: &[] },
    App { service: "cart", version: "v1", port: PORT, calls: &[("catalog", PORT)] },
    App { service: "reviews", version: "v1", port: PORT, calls: &[] },
    App { service: "reviews", version: "v2", port: PORT, calls: &[("ratings", PORT)] },
    App { service: "reviews", version: "v3", port: PORT, calls: &[("ratings", PORT)] },
    App { service: "ratings", version: "v1", port: PORT, calls: &[] },
    App { service: "checkout", version: "v1", port: PORT, calls: &[("cart", PORT), ("payments", PORT)] },
    App { service: "payments", version: "v1", port: PORT, calls: &[] },
];

/// One in this many charges is the planted fault: the program closes the connection without an answer.
const FAULT_EVERY: u32 = 8;

/// A program that runs: its address book, and a counter for the planted fault.
struct Running {
    app: App,
    /// Where each called service is reached: the sidecar's listener for it.
    book: BTreeMap<&'static str, SocketAddr>,
    charges: Cell<u32>,
}

/// What a program answers; `None` closes the connection.
type Answer = Option<(StatusCode, Value)>;

/// Serves `app` on `listener` until the task is dropped.
pub(crate) async fn serve(app: App, listener: TcpListener, book: BTreeMap<&'static str, SocketAddr>) -> std::io::Result<()> {
    let running = Rc::new(Running { app, book, charges: Cell::new(0) });
    http::serve(listener, move |method, path, headers| {
        let running = running.clone();
        async move { running.answer(&method, &path, &headers).await }
    })
    .await
}

impl Running {
    async fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Answer {
        match (self.app.service, method.as_str(), path) {
            ("frontend", "GET", "/") => self.home(headers).await,
            ("frontend", "GET", p) if p.starts_with("/product/") => self.product(headers).await,
            ("frontend", "POST", "/checkout") => Some(self.forward(Method::POST, "checkout", "/orders", headers).await),
            ("frontend", "GET", "/admin") => ok(json!({ "secret": "the admin page" })),
            ("catalog", "GET", _) => ok(json!([{ "id": 1, "name": "Loom", "price": 420 }, { "id": 2, "name": "Shuttle", "price": 12 }])),
            ("cart", "GET", _) => {
                let (status, _) = self.forward(Method::GET, "catalog", "/products", headers).await;
                Some((status, json!({ "items": [{ "product": 2, "count": 3 }] })))
            }
            ("reviews", "GET", _) => self.reviews(headers).await,
            ("ratings", "GET", _) => ok(json!({ "1": 5, "2": 4 })),
            ("checkout", "POST", "/orders") => self.order(headers).await,
            ("payments", "POST", "/charge") => self.charge(),
            _ => Some((StatusCode::NOT_FOUND, json!({ "error": format!("{} has no {method} {path}", self.app.service) }))),
        }
    }

    async fn home(&self, headers: &HeaderMap) -> Answer {
        let (catalog, products) = self.forward(Method::GET, "catalog", "/products", headers).await;
        let (cart, items) = self.forward(Method::GET, "cart", "/cart", headers).await;
        Some((catalog.max(cart), json!({ "shop": "Weft demo", "products": products, "cart": items })))
    }

    async fn product(&self, headers: &HeaderMap) -> Answer {
        let (catalog, products) = self.forward(Method::GET, "catalog", "/products/1", headers).await;
        let (reviews, text) = self.forward(Method::GET, "reviews", "/reviews/1", headers).await;
        Some((catalog.max(reviews), json!({ "product": products, "reviews": text })))
    }

    async fn reviews(&self, headers: &HeaderMap) -> Answer {
        let text = json!({ "version": self.app.version, "text": "Weaves well." });
        if self.app.version == "v1" {
            return ok(text);
        }
        let (status, stars) = self.forward(Method::GET, "ratings", "/ratings/1", headers).await;
        Some((status, json!({ "review": text, "stars": stars })))
    }

    async fn order(&self, headers: &HeaderMap) -> Answer {
        let (_, items) = self.forward(Method::GET, "cart", "/cart", headers).await;
        let (status, receipt) = self.forward(Method::POST, "payments", "/charge", headers).await;
        Some((status, json!({ "order": items, "receipt": receipt })))
    }

    fn charge(&self) -> Answer {
        self.charges.set(self.charges.get().wrapping_add(1));
        match self.charges.get() % FAULT_EVERY {
            0 => None,
            _ => ok(json!({ "charged": 36 })),
        }
    }

    /// Calls another service by name through the sidecar, passing on what ties the hops together.
    async fn forward(&self, method: Method, service: &str, path: &str, headers: &HeaderMap) -> (StatusCode, Value) {
        let Some(address) = self.book.get(service) else {
            return (StatusCode::BAD_GATEWAY, json!({ "error": format!("no address for {service}") }));
        };
        let mut outgoing = Outgoing::new(method, *address, &format!("{service}:{PORT}"), path);
        for name in ["x-request-id", "traceparent", "tracestate", "end-user"] {
            if let Some(value) = headers.get(name) {
                outgoing.header(name, value.clone());
            }
        }
        match outgoing.send().await {
            Ok((status, body)) => (status, serde_json::from_slice(&body).unwrap_or(Value::Null)),
            Err(error) => (StatusCode::BAD_GATEWAY, json!({ "error": error.to_string() })),
        }
    }
}

fn ok(value: Value) -> Answer {
    Some((StatusCode::OK, value))
}
