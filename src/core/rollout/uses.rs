//! How a pod uses a Secret.

use serde_json::Value;

/// How the containers of a pod get at a Secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own, and any of them may hold together")]
pub struct Uses {
    /// As files: a volume, a source of a projected volume, or a CSI driver that is given the Secret. Running pods get new ones.
    pub files: bool,
    /// As environment variables, by `env` or `envFrom`. A running container keeps those that it started with.
    pub env: bool,
    /// One of these without which the containers start too.
    pub optional: bool,
    /// As files by `subPath` or `subPathExpr`, which the kubelet does not update.
    pub sub_path: bool,
}

impl Uses {
    /// How a pod with this `spec` uses the Secret. Whatever is not understood is no use; an optional use is one.
    #[must_use]
    pub fn of(pod_spec: &Value, secret: &str) -> Self {
        let volumes: Vec<&Value> = list(pod_spec, "volumes").filter(|volume| !of_volume(volume, secret).is_empty()).collect();
        let names: Vec<&str> = volumes.iter().filter_map(|volume| volume["name"].as_str()).collect();
        let in_volumes = volumes.iter().flat_map(|volume| of_volume(volume, secret));
        let variables: Vec<&Value> = containers(pod_spec).flat_map(|container| of_variables(container, secret)).collect();
        let mut uses = Self { files: !volumes.is_empty(), env: !variables.is_empty(), ..Self::default() };
        uses.optional = in_volumes.chain(variables).any(|reference| reference["optional"] == true);
        for container in containers(pod_spec) {
            uses.sub_path |= list(container, "volumeMounts").any(|mount| {
                let is_part = |field: &str| mount[field].as_str().is_some_and(|path| !path.is_empty());
                mount["name"].as_str().is_some_and(|name| names.contains(&name))
                    && (is_part("subPath") || is_part("subPathExpr"))
            });
        }
        uses
    }

    /// Whether there is any use.
    #[must_use]
    pub const fn any(self) -> bool {
        self.files || self.env || self.sub_path
    }

    /// Whether no container starts without the Secret.
    #[must_use]
    pub const fn is_required(self) -> bool {
        self.any() && !self.optional
    }

    /// What of it only a restart updates, as the API names it.
    #[must_use]
    pub const fn updated_by_restart_alone(self) -> Option<&'static str> {
        match (self.env, self.sub_path) {
            (true, true) => Some("env and subPath"),
            (true, false) => Some("env"),
            (false, true) => Some("subPath"),
            (false, false) => None,
        }
    }
}

/// The references to the Secret in a volume.
fn of_volume<'a>(volume: &'a Value, secret: &str) -> Vec<&'a Value> {
    let sources = list(&volume["projected"], "sources").map(|source| (&source["secret"], "name"));
    let own = [(&volume["secret"], "secretName"), (&volume["csi"]["nodePublishSecretRef"], "name")];
    sources.chain(own).filter(|(reference, field)| reference[field] == secret).map(|(reference, _)| reference).collect()
}

/// The references to the Secret in the environment of a container.
fn of_variables<'a>(container: &'a Value, secret: &str) -> Vec<&'a Value> {
    let keys = list(container, "env").map(|variable| &variable["valueFrom"]["secretKeyRef"]);
    let wholes = list(container, "envFrom").map(|source| &source["secretRef"]);
    keys.chain(wholes).filter(|reference| reference["name"] == secret).collect()
}

fn containers(pod_spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|field| list(pod_spec, field))
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    const FILES: Uses = Uses { files: true, env: false, optional: false, sub_path: false };
    const NONE: Uses = Uses { files: false, ..FILES };

    #[rstest]
    #[case::volume(json!({ "volumes": [{ "name": "v", "secret": { "secretName": "orders" } }] }), FILES)]
    #[case::optional_volume(json!({ "volumes": [{ "name": "v", "secret": { "secretName": "orders", "optional": true } }] }), Uses { optional: true, ..FILES })]
    #[case::projected(json!({ "volumes": [{ "name": "v", "projected": { "sources": [{ "configMap": { "name": "orders" } }, { "secret": { "name": "orders" } }] } }] }), FILES)]
    #[case::csi(json!({ "volumes": [{ "name": "v", "csi": { "driver": "d", "nodePublishSecretRef": { "name": "orders" } } }] }), FILES)]
    #[case::env(json!({ "containers": [{ "env": [{ "name": "K", "valueFrom": { "secretKeyRef": { "name": "orders", "key": "tls.key" } } }] }] }), Uses { env: true, ..NONE })]
    #[case::env_from_of_an_init_container(json!({ "initContainers": [{ "envFrom": [{ "secretRef": { "name": "orders" } }] }] }), Uses { env: true, ..NONE })]
    #[case::sub_path(json!({ "volumes": [{ "name": "v", "secret": { "secretName": "orders" } }],
        "containers": [{ "volumeMounts": [{ "name": "v", "subPath": "tls.crt" }] }] }), Uses { sub_path: true, ..FILES })]
    #[case::whole_mount(json!({ "volumes": [{ "name": "v", "secret": { "secretName": "orders" } }],
        "containers": [{ "volumeMounts": [{ "name": "v", "mountPath": "/tls" }, { "name": "other", "subPath": "x" }] }] }), FILES)]
    #[case::another_secret(json!({ "volumes": [{ "name": "orders", "secret": { "secretName": "payments" } }] }), NONE)]
    #[case::pull_secret(json!({ "imagePullSecrets": [{ "name": "orders" }] }), NONE)]
    #[case::garbage(json!({ "volumes": "orders", "containers": [7, null] }), NONE)]
    #[case::nothing(Value::Null, NONE)]
    fn a_use_is_found_wherever_a_pod_names_the_secret(#[case] pod_spec: Value, #[case] expected: Uses) {
        assert_eq!(Uses::of(&pod_spec, "orders"), expected);
        assert_eq!(expected.any(), expected != NONE);
    }

    #[test]
    fn what_only_a_restart_updates_is_named() {
        assert_eq!(FILES.updated_by_restart_alone(), None);
        assert_eq!(Uses { env: true, ..FILES }.updated_by_restart_alone(), Some("env"));
        assert_eq!(Uses { sub_path: true, ..FILES }.updated_by_restart_alone(), Some("subPath"));
        assert_eq!(Uses { env: true, sub_path: true, ..FILES }.updated_by_restart_alone(), Some("env and subPath"));
    }
}
