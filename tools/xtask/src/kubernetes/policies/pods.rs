//! Pods and containers: restricted, limited, probed.

use serde_json::Value;

use crate::kubernetes::values::{list, text};

/// A container whose root is not read-only: its start writes into its image.
const WRITES_TO_ROOT: &str = "kafka";

/// A pod is restricted, and has no token of the API.
pub(super) fn check_pod(pod: &Value, fault: &mut impl FnMut(String)) {
    let security = &pod["securityContext"];
    if security["runAsNonRoot"] != true {
        fault("may run as root".to_owned());
    }
    if security["seccompProfile"]["type"] != "RuntimeDefault" {
        fault("has no seccomp profile".to_owned());
    }
    if pod["automountServiceAccountToken"] != false || pod["serviceAccountName"].is_null() {
        fault("has no service account of its own without a token".to_owned());
    }
    if !pod["initContainers"].is_null() {
        fault("has init containers, which these policies do not check".to_owned());
    }
    for volume in list(&pod["volumes"]) {
        if !volume["hostPath"].is_null() {
            fault(format!("mounts the host's {}", volume["hostPath"]["path"]));
        }
        if volume
            .get("emptyDir")
            .is_some_and(|it| it["sizeLimit"].is_null())
        {
            fault(format!("volume {} has no limit", volume["name"]));
        }
    }
}

/// A container has an image with a version, limits, probes and no privilege.
pub(super) fn check_container(container: &Value, kind: &str, fault: &mut impl FnMut(String)) {
    let image = text(&container["image"]);
    let name = image.rsplit('/').next().unwrap_or_default();
    let tag = name.split_once(':').map(|(_, tag)| tag);
    if tag.is_none_or(|tag| tag == "latest" || !tag.contains('.')) {
        fault(format!("image {image} has no version"));
    }
    for resource in ["cpu", "memory"] {
        for bound in ["requests", "limits"] {
            if container["resources"][bound][resource].is_null() {
                fault(format!("no {resource} in {bound}"));
            }
        }
    }
    if kind != "Job" {
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            if container[probe].is_null() {
                fault(format!("no {probe}"));
            }
        }
    }
    let security = &container["securityContext"];
    let drops_all = list(&security["capabilities"]["drop"]).any(|it| it == "ALL");
    if security["allowPrivilegeEscalation"] != false || security["privileged"] == true || !drops_all
    {
        fault("may gain privileges".to_owned());
    }
    if security["readOnlyRootFilesystem"] != true && container["name"] != WRITES_TO_ROOT {
        fault("may write to its root".to_owned());
    }
}
