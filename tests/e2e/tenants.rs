//! Two tenants with the same trace ids do not meet.

use tempfile::tempdir;

use crate::appliance::{Appliance, one_span};

#[test]
fn tenants_see_their_own_spans() {
    let directory = tempdir().unwrap();
    let server = Appliance::start(&directory, &["tenancy.enabled=true"]);
    let id = "0af7651916cd43dd8448eb211c80319c";
    let send = |tenant: &str, service: &str| {
        let headers = [("Content-Type", "application/json"), ("X-Scope-OrgID", tenant)];
        server.send(&headers, one_span(id, service, "a").as_bytes()).status
    };
    assert_eq!((send("a", "of-a"), send("b", "of-b")), (200, 200));
    assert_eq!(send("a/b", "x"), 400);
    assert_eq!(server.send_json(&one_span(id, "x", "x")).status, 401);
    assert_eq!(server.get(&format!("/api/v2/traces/{id}")).status, 401);
    let ask = |tenant: &str, path: &str| {
        server.ask("query_http", "GET", path, &[("X-Scope-OrgID", tenant)], b"").text()
    };
    for (tenant, own, other) in [("a", "of-a", "of-b"), ("b", "of-b", "of-a")] {
        for path in [
            format!("/api/v2/traces/{id}"),
            "/api/search?q=%7B%7D".to_owned(),
            "/api/v2/search/tag/resource.service.name/values".to_owned(),
        ] {
            let text = ask(tenant, &path);
            assert!(text.contains(own) && !text.contains(other), "{tenant} {path}: {text}");
        }
    }
    let both = ask("a|b", "/api/v2/search/tag/resource.service.name/values");
    assert!(both.contains("of-a") && both.contains("of-b"), "{both}");
    assert!(!ask("c", "/api/search?q=%7B%7D").contains("of-"));
}
