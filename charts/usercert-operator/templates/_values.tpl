{{- /* Every template begins with this. It has each setting that a file of values makes null be what values.yaml has, and drops what else is null: so an
overlay can take back a label, a limit or an alert. Helm itself only takes the chart's own value away. */}}
{{- define "usercert-operator.prepare" -}}
{{- $lacking := list }}
{{- range include "usercert-operator.sinceFirst" . | fromYamlArray }}
{{- if kindIs "invalid" (index $.Values .) }}{{ $lacking = append $lacking . }}{{ end }}
{{- end }}
{{- if gt (len $lacking) 8 }}
{{- fail "the values of the former release lack what this version of the chart has by default: use helm upgrade --reset-then-reuse-values in place of --reuse-values" }}
{{- end }}
{{- include "usercert-operator.dropNulls" .Values }}
{{- include "usercert-operator.fill" (list .Values (include "usercert-operator.defaults" . | fromYaml)) }}
{{- end }}

{{- /* What values.yaml has and that of 0.1.0 has not. Where most of it is missing, the values are those of 0.1.0, whatever is set by hand: what null takes
away could not be told from what never was there, such as security contexts. A file of values takes away a few of them at most. */}}
{{- define "usercert-operator.sinceFirst" -}}
[admissionPolicy, commonLabels, dashboard, deploymentAnnotations, dnsConfig, dnsPolicy, extraArgs, extraObjects, extraVolumeMounts, extraVolumes, hostAliases,
metrics, networkPolicy, podDisruptionBudget, podMonitor, podSecurityContext, probes, prometheusRule, revisionHistoryLimit, rollout, securityContext, service,
serviceMonitor, topologySpreadConstraints, updateStrategy]
{{- end }}

{{- /* Not in the global values, which are those of other charts too, and not in lists, which no overlay changes in part. */}}
{{- define "usercert-operator.dropNulls" -}}
{{- $values := . }}
{{- range $key, $value := $values }}
{{- if kindIs "invalid" $value }}
{{- $_ := unset $values $key }}
{{- else if and (kindIs "map" $value) (ne $key "global") }}
{{- include "usercert-operator.dropNulls" $value }}
{{- end }}
{{- end }}
{{- end }}

{{- define "usercert-operator.fill" -}}
{{- $values := index . 0 }}
{{- range $key, $default := index . 1 }}
{{- if not (hasKey $values $key) }}
{{- $_ := set $values $key $default }}
{{- else if kindIs "map" $default }}
{{- include "usercert-operator.fill" (list (index $values $key) $default) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The settings of values.yaml for which null means the default; a test compares each of them. What is not here, null takes away: labels, security
contexts, resources, constraints. image.repository is not here, because the chart of a release has another one. */}}
{{- define "usercert-operator.defaults" -}}
image: {pullPolicy: IfNotPresent}
replicaCount: 1
revisionHistoryLimit: 3
leaderElection: {enabled: true}
crds: {install: true, keep: true}
serviceAccount: {create: true}
rbac: {create: true, aggregate: auto}
admissionPolicy: {enabled: auto}
rollout: {}
updateStrategy: {}
maxConcurrent: 32
atlas:
  timeoutSeconds: 30
  allowedEndpoints: [https://cloud.mongodb.com, https://cloud.mongodbgov.com]
  endpoint: https://cloud.mongodb.com
  caBundle: {key: ca.crt}
log: {format: json, filter: info}
metrics: {certificates: each, secure: {}}
resources: {}
probes:
  liveness: {periodSeconds: 20, timeoutSeconds: 1, failureThreshold: 6}
  readiness: {periodSeconds: 5, timeoutSeconds: 1, failureThreshold: 3}
podSecurityContext: {}
securityContext: {}
terminationGracePeriodSeconds: 300
podDisruptionBudget: {enabled: auto, maxUnavailable: 1}
service: {enabled: true}
serviceMonitor: {}
podMonitor: {}
networkPolicy:
  ingress: {}
  egress:
    apiServer: {ports: [443, 6443]}
    dns: {ports: [53]}
    atlas: {ports: [443]}
prometheusRule: {labels: {}, additionalLabels: {}, aggregationLabels: [cluster], alerts: {}}
dashboard: {labels: {}}
{{- end }}
