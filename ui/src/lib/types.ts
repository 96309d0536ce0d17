// The API's shapes under short names. They are generated from openapi/weft.json.
import type { components } from '../api/schema';

type S = components['schemas'];
export type Health = S['Health'];
export type HealthLevel = S['HealthLevel'];
export type Graph = S['Graph'];
export type GraphNode = S['GraphNode'];
export type Edge = S['Edge'];
export type Traffic = S['Traffic'];
export type Change = S['Change'];
export type Tick = S['Tick'];
export type Service = S['Service'];
export type ServiceDetail = S['ServiceDetail'];
export type ServiceVersion = S['ServiceVersion'];
export type ServiceRoute = S['ServiceRoute'];
export type RequestSummary = S['RequestSummary'];
export type RequestDetail = S['RequestDetail'];
export type RequestRecord = S['RequestRecord'];
export type Why = S['Why'];
export type WhyHop = S['WhyHop'];
export type Origin = S['Origin'];
export type Party = S['Party'];
export type Resource = S['Resource'];
export type ResourceDetail = S['ResourceDetail'];
export type Diagnostic = S['Diagnostic'];
export type Proxy = S['Proxy'];
export type ApiErrorBody = S['Error'];
