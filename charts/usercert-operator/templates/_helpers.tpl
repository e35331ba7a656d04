{{- define "usercert-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimAll "-_." }}
{{- end }}

{{- define "usercert-operator.fullname" -}}
{{- $name := include "usercert-operator.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimAll "-_." }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimAll "-_." }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimAll "-_." }}
{{- end }}
{{- end }}

{{- define "usercert-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "usercert-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- /* Of the Pod of helm test: Service, policies and budgets of the operator must not select it. */}}
{{- define "usercert-operator.testLabels" -}}
app.kubernetes.io/name: {{ include "usercert-operator.name" . | trunc 58 | trimAll "-_." }}-test
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- /* Of every object. The chart's own win over commonLabels. */}}
{{- define "usercert-operator.labels" -}}
{{- $own := include "usercert-operator.selectorLabels" . | fromYaml }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimAll "-_.") }}
{{- $_ := set $own "app.kubernetes.io/version" (.Chart.AppVersion | toString) }}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service }}
{{- merge $own (default dict .Values.commonLabels) | toYaml }}
{{- end }}

{{- define "usercert-operator.serviceAccountName" -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) }}
{{- fail "serviceAccount.create=false needs serviceAccount.name: the namespace's default account must not get the operator's rights" }}
{{- end }}
{{- default (include "usercert-operator.fullname" .) .Values.serviceAccount.name }}
{{- end }}

{{- define "usercert-operator.image" -}}
{{- if not .Values.image.repository }}
{{- fail "image.repository is null: it names the operator's image" }}
{{- end }}
{{- $registry := default .Values.image.registry (default dict .Values.global).imageRegistry }}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end }}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{- /* With an election the new Pod stands by until the old one has given up the lease. Without one there are never two at once. */}}
{{- define "usercert-operator.updateStrategy" -}}
{{- $ours := dict "type" "RollingUpdate" "rollingUpdate" (dict "maxUnavailable" 0 "maxSurge" 1) }}
{{- if not .Values.leaderElection.enabled }}{{ $ours = dict "type" "Recreate" }}{{ end }}
{{- if eq (toString .Values.updateStrategy.type) "Recreate" }}{{ $ours = dict "type" "Recreate" }}{{ end }}
{{- mergeOverwrite $ours .Values.updateStrategy | toYaml }}
{{- end }}

{{- define "usercert-operator.imagePullSecrets" -}}
{{- $all := default list .Values.imagePullSecrets }}
{{- range (default dict .Values.global).imagePullSecrets }}
{{- /* Other charts take names alone. */}}
{{- $all = append $all (kindIs "string" . | ternary (dict "name" .) .) }}
{{- end }}
{{- with uniq $all }}
imagePullSecrets: {{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{- define "usercert-operator.priorityClassName" -}}
{{- default (default dict .Values.global).priorityClassName .Values.priorityClassName | default "" }}
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

{{- define "usercert-operator.podDisruptionBudget" -}}
{{- $enabled := toString .Values.podDisruptionBudget.enabled }}
{{- if or (eq $enabled "true") (and (eq $enabled "auto") (gt (int .Values.replicaCount) 1)) }}true{{ end }}
{{- end }}

{{- define "usercert-operator.aggregate" -}}
{{- include "usercert-operator.isOn" (list .Values.rbac.aggregate .) }}
{{- end }}

{{- /* The Secret with the certificate for metrics, if there is one. */}}
{{- define "usercert-operator.metricsSecret" -}}
{{- if .Values.metrics.secure.enabled }}{{ default "" .Values.metrics.secure.certificateSecret }}{{ end }}
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
- {name: STOP_LIMIT_SECONDS, value: {{ sub (int64 .Values.terminationGracePeriodSeconds) 20 | quote }}}
- {name: HTTP_ADDRESS, value: "[::]:8080"}
- {name: MAX_CONCURRENT, value: {{ int64 .Values.maxConcurrent | quote }}}
- {name: ATLAS_TIMEOUT_SECONDS, value: {{ int64 .Values.atlas.timeoutSeconds | quote }}}
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
- {name: CERTIFICATE_METRICS, value: {{ .Values.metrics.certificates | quote }}}
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

{{- /* What the chart sets, with extraEnv. Of a name that stands twice the last counts: server-side apply refuses a list that has both. */}}
{{- define "usercert-operator.env" -}}
{{- $all := list }}
{{- range $entry := concat (fromYamlArray (include "usercert-operator.ownEnv" .)) (default list .Values.extraEnv) }}
{{- $others := list }}
{{- range $all }}{{ if ne .name $entry.name }}{{ $others = append $others . }}{{ end }}{{ end }}
{{- $all = append $others $entry }}
{{- end }}
{{- toYaml $all }}
{{- end }}

{{- /* The constraints, each with the chart's selector if it has none. */}}
{{- define "usercert-operator.topologySpreadConstraints" -}}
{{- $selector := dict "matchLabels" (include "usercert-operator.selectorLabels" . | fromYaml) }}
{{- $all := list }}
{{- range .Values.topologySpreadConstraints }}
{{- $constraint := deepCopy . }}
{{- if not .labelSelector }}{{ $_ := set $constraint "labelSelector" $selector }}{{ end }}
{{- $all = append $all $constraint }}
{{- end }}
{{- toYaml $all }}
{{- end }}

{{- /* What the Prometheus operator asks a Pod for: the endpoint of a ServiceMonitor or PodMonitor, by its kind and values. Series name the namespace of
a certificate, which must not become that of the Pod. */}}
{{- define "usercert-operator.endpoint" -}}
{{- $root := index . 0 }}
{{- $kind := index . 1 }}
{{- $values := index . 2 }}
{{- $endpoint := dict "port" "http" "path" "/metrics" "honorLabels" true }}
{{- if $root.Values.metrics.secure.enabled }}
{{- $_ := set $endpoint "port" "https-metrics" }}
{{- $_ := set $endpoint "scheme" "https" }}
{{- if include "usercert-operator.metricsSecret" $root }}
{{- $_ := set $endpoint "tlsConfig" (dict "serverName" (printf "%s.%s.svc" (include "usercert-operator.fullname" $root) $root.Release.Namespace)) }}
{{- else if pick (default dict (default dict $values.endpoint).tlsConfig) "ca" "caFile" }}
{{- fail (printf "%s.endpoint.tlsConfig names a CA, and the certificate that the operator makes at start is of none: set metrics.secure.certificateSecret, or leave the CA out" (untitle $kind)) }}
{{- else }}
{{- $_ := set $endpoint "tlsConfig" (dict "insecureSkipVerify" true) }}
{{- end }}
{{- /* Prometheus takes one way to show who it is. */}}
{{- $own := pick (default dict $values.endpoint) "authorization" "oauth2" "basicAuth" "bearerTokenSecret" }}
{{- if $own }}
{{- else if eq $kind "ServiceMonitor" }}
{{- $_ := set $endpoint "bearerTokenFile" "/var/run/secrets/kubernetes.io/serviceaccount/token" }}
{{- else }}
{{- fail "metrics.secure.enabled wants a token, and a PodMonitor cannot send that of Prometheus: use serviceMonitor, or name a Secret with a token in podMonitor.endpoint.authorization" }}
{{- end }}
{{- end }}
{{- range $key := list "interval" "scrapeTimeout" "relabelings" "metricRelabelings" }}
{{- with index $values $key }}{{ $_ := set $endpoint $key . }}{{ end }}
{{- end }}
{{- $all := mergeOverwrite $endpoint (default dict $values.endpoint) }}
{{- include "usercert-operator.refuseSlowScrape" (list (untitle $kind) $all $root.Values) }}
{{- toYaml $all }}
{{- end }}

{{- /* What the series of this release have in common where Prometheus finds it by a monitor of this chart: the namespace and the job, as the Prometheus
operator sets them. Nothing is known of other ways, or of labels that are changed on the way. */}}
{{- define "usercert-operator.ownSeries" -}}
{{- $name := include "usercert-operator.fullname" . }}
{{- if and .Values.serviceMonitor.enabled (not .Values.serviceMonitor.relabelings) (not (default dict .Values.serviceMonitor.endpoint).relabelings) -}}
namespace={{ quote .Release.Namespace }},job={{ quote $name }}
{{- else if and .Values.podMonitor.enabled (not .Values.podMonitor.relabelings) (not (default dict .Values.podMonitor.endpoint).relabelings) -}}
namespace={{ quote .Release.Namespace }},job={{ printf "%s/%s" (default .Release.Namespace .Values.podMonitor.namespace) $name | quote }}
{{- end }}
{{- end }}

{{- /* A rule of a NetworkPolicy as a list: addresses, ports, protocols. No addresses are all of them; no ports are no rule. */}}
{{- define "usercert-operator.egress" -}}
{{- $rule := dict "ports" list }}
{{- range $protocol := index . 2 }}
{{- range $port := index $ 1 }}
{{- $_ := set $rule "ports" (append $rule.ports (dict "port" $port "protocol" $protocol)) }}
{{- end }}
{{- end }}
{{- range index . 0 }}
{{- $_ := set $rule "to" (append (default list $rule.to) (dict "ipBlock" (dict "cidr" .))) }}
{{- end }}
{{- with index . 1 }}
{{- list $rule | toYaml }}
{{- end }}
{{- end }}
