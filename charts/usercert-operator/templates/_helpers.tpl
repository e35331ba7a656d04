{{- define "usercert-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "usercert-operator.fullname" -}}
{{- $name := include "usercert-operator.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "usercert-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "usercert-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "usercert-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "usercert-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "usercert-operator.serviceAccountName" -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) }}
{{- fail "serviceAccount.create=false needs serviceAccount.name: the namespace's default account must not get the operator's rights" }}
{{- end }}
{{- default (include "usercert-operator.fullname" .) .Values.serviceAccount.name }}
{{- end }}

{{- define "usercert-operator.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{- /* The rules in each namespace that is served. */}}
{{- define "usercert-operator.namespacedRules" -}}
- apiGroups: [usercert.dev]
  resources: [databaseusercertificates, certificateissuers]
  verbs: [get, list, watch]
- apiGroups: [usercert.dev]
  resources: [databaseusercertificates/status, certificateissuers/status]
  verbs: [patch]
# Owner references that block the owner's deletion need this where OwnerReferencesPermissionEnforcement is on, as on OpenShift.
- apiGroups: [usercert.dev]
  resources: [databaseusercertificates/finalizers]
  verbs: [update]
# Lists and watches ask for metadata only, of Secrets with the operator's label or of one by its name; RBAC cannot say so.
# Secrets are never deleted by the operator: the garbage collector does that, by their owner.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch]
# Listed once when a DatabaseUserCertificate was deleted, because an Event names the Pods that use its Secret; and during a rollout.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
# Objects of the Atlas Kubernetes Operator that projectRef and userRef name. They are only read, and need not be served.
- apiGroups: [atlas.mongodb.com]
  resources: [atlasprojects, atlasdatabaseusers]
  verbs: [get, list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- if .Values.rollout.enabled }}
# To restart workloads: the annotation usercert.dev/serial-numbers of their pod templates. RBAC cannot say so; the admission policy does.
{{- range include "usercert-operator.rolloutResources" . | fromYamlArray }}
- apiGroups: {{ toJson .apiGroups }}
  resources: {{ toJson .resources }}
  verbs: [get, list, patch]
{{- end }}
# Which of them use a Secret. They are never restarted, and a warning names them. For Pods there is a rule above.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list]
{{- end }}
{{- end }}

{{- /* The kinds of workloads that may be restarted, as a list of apiGroups and resources. */}}
{{- define "usercert-operator.rolloutResources" -}}
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets]
{{- range .Values.rollout.kinds }}
- apiGroups: [{{ .group | quote }}]
  resources: [{{ .resource | quote }}]
{{- end }}
{{- end }}

{{- /* Not empty if a value is true, or auto in whole-cluster mode. */}}
{{- define "usercert-operator.isOn" -}}
{{- $value := toString (index . 0) }}
{{- if or (eq $value "true") (and (eq $value "auto") (not (index . 1).Values.watchNamespaces)) }}true{{ end }}
{{- end }}

{{- define "usercert-operator.admissionPolicy" -}}
{{- include "usercert-operator.isOn" (list .Values.admissionPolicy.enabled .) }}
{{- end }}

{{- define "usercert-operator.aggregate" -}}
{{- include "usercert-operator.isOn" (list .Values.rbac.aggregate .) }}
{{- end }}

{{- /* The Secret with the certificate for metrics, if there is one. */}}
{{- define "usercert-operator.metricsSecret" -}}
{{- if .Values.metrics.secure.enabled }}{{ .Values.metrics.secure.certificateSecret }}{{ end }}
{{- end }}

{{- /* What the chart itself sets. */}}
{{- define "usercert-operator.ownEnv" -}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- {name: LEADER_ELECT, value: {{ .Values.leaderElection.enabled | quote }}}
- {name: LEASE_NAME, value: {{ include "usercert-operator.fullname" . | quote }}}
# The rest is for the lease to be given up in.
- {name: STOP_LIMIT_SECONDS, value: {{ sub .Values.terminationGracePeriodSeconds 20 | quote }}}
- {name: HTTP_ADDRESS, value: "[::]:8080"}
- {name: MAX_CONCURRENT, value: {{ .Values.maxConcurrent | quote }}}
- {name: ATLAS_TIMEOUT_SECONDS, value: {{ .Values.atlas.timeoutSeconds | quote }}}
- {name: ATLAS_ENDPOINT, value: {{ .Values.atlas.endpoint | quote }}}
- {name: ALLOWED_ATLAS_ENDPOINTS, value: {{ join "," .Values.atlas.allowedEndpoints | quote }}}
{{- with .Values.atlas.lendCredentialsTo }}
- {name: LEND_CREDENTIALS_TO, value: {{ join "," . | quote }}}
{{- end }}
{{- with .Values.atlas.operatorSecret }}
- {name: ATLAS_OPERATOR_SECRET, value: {{ . | quote }}}
{{- end }}
{{- if .Values.atlas.caBundle.configMap }}
- {name: ATLAS_CA_FILE, value: {{ printf "/etc/usercert-operator/atlas/%s" .Values.atlas.caBundle.key | quote }}}
{{- end }}
# glibc would keep the buffers of long lists: it takes every size that was freed once for one that is needed again.
- {name: MALLOC_MMAP_THRESHOLD_, value: "131072"}
- {name: MALLOC_TRIM_THRESHOLD_, value: "131072"}
- {name: LOG_FORMAT, value: {{ .Values.log.format | quote }}}
- {name: RUST_LOG, value: {{ .Values.log.filter | quote }}}
{{- if .Values.metrics.secure.enabled }}
- {name: METRICS_SECURE, value: "true"}
{{- if .Values.metrics.secure.certificateSecret }}
- {name: METRICS_CERT_FILE, value: /etc/usercert-operator/metrics/tls.crt}
- {name: METRICS_KEY_FILE, value: /etc/usercert-operator/metrics/tls.key}
{{- end }}
{{- end }}
{{- if .Values.rollout.enabled }}
- {name: ROLLOUT, value: "true"}
{{- with .Values.rollout.kinds }}
{{- $kinds := list }}
{{- range . }}{{ $kinds = append $kinds (printf "%s/%s/%s=%s" .group .version .kind .resource) }}{{ end }}
- {name: ROLLOUT_KINDS, value: {{ join "," $kinds | quote }}}
{{- end }}
{{- end }}
{{- with .Values.watchNamespaces }}
- {name: WATCH_NAMESPACES, value: {{ join "," . | quote }}}
{{- end }}
{{- end }}

{{- /* The same with extraEnv. Of a name that stands twice the last counts: server-side apply refuses a list that has both. */}}
{{- define "usercert-operator.env" -}}
{{- $all := list }}
{{- range $entry := concat (fromYamlArray (include "usercert-operator.ownEnv" .)) (default list .Values.extraEnv) }}
{{- $others := list }}
{{- range $all }}{{ if ne .name $entry.name }}{{ $others = append $others . }}{{ end }}{{ end }}
{{- $all = append $others $entry }}
{{- end }}
{{- toYaml $all }}
{{- end }}
