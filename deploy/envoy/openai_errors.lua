-- The shape of errors at the door. Outermost of the filters, so it sees what the services and what Envoy itself answer.
--
-- HTTP, status 400 and above: the body becomes OpenAI's
--     {"error": {"message": ..., "type": ..., "param": ..., "code": ...}}
-- The services' errors come as a google.rpc.Status in JSON with an ErrorInfo in its details: metadata.openai_code (or
-- the reason) gives `code`, metadata.field `param`, metadata.type `type`; a RetryInfo gives the header retry-after.
--
-- gRPC: an error that Envoy or gRPC itself made has no details; it gets the ErrorInfo that a service would have sent.
-- gRPC-Web: Envoy answers its own errors as plain HTTP; they become gRPC statuses as well.

local INVALID = "invalid_request_error"
local TOO_LARGE = "the request is larger than 32 MiB"
local NO_ANSWER = "the service behind the door is not available"
local TOO_LATE = "the call's deadline has passed"

-- For HTTP errors without ErrorInfo: what the status alone tells.
local BY_STATUS = {
  ["400"] = {type = INVALID, message = "the request is not valid"},
  ["401"] = {type = "authentication_error", code = "invalid_api_key", message = "the API key is missing or wrong"},
  ["403"] = {type = "permission_error", code = "permission_denied", message = "this is not allowed"},
  ["404"] = {type = INVALID, code = "not_found", message = "there is nothing at this path with this method"},
  ["413"] = {type = INVALID, code = "request_too_large", message = TOO_LARGE, fixed = true},
  ["415"] = {type = INVALID, message = "the content type is not one that this path takes"},
  ["431"] = {type = INVALID, code = "request_too_large", message = "the request's headers are too large"},
  ["429"] = {type = "rate_limit_error", code = "rate_limit_exceeded", message = "too many requests"},
  ["503"] = {type = "api_error", code = "backend_unavailable", message = NO_ANSWER, fixed = true},
  ["504"] = {type = "api_error", code = "deadline_exceeded", message = TOO_LATE, fixed = true},
}
local OTHER = {type = "api_error", message = "the request failed"}

-- A status that says more than the one which the gRPC code was mapped to.
local STATUS_OF_REASON = {['"REQUEST_TOO_LARGE"'] = "413"}

-- What gRPC says, in a message without details, that is the caller's doing.
local STATUS_OF_MESSAGE = {
  {start = '"Error parsing \'', status = "400"}, -- a header named *-bin that is not base64
  {start = '"SERVER: Received message larger than max', status = "413"},
}

-- Errors of Envoy's or gRPC's own, by grpc-status, with the reason that a service would have given.
local GRPC_REASONS = {
  ["4"] = {reason = "DEADLINE_EXCEEDED", type = "api_error", message = TOO_LATE},
  ["8"] = {reason = "REQUEST_TOO_LARGE", type = INVALID, message = TOO_LARGE, only = "larger than max"},
  ["14"] = {reason = "BACKEND_UNAVAILABLE", type = "api_error", message = NO_ANSWER},
}

-- Envoy's text when a call's time is over before its request was complete; it comes with 408.
local TIME_IS_OVER = "downstream duration timeout"

-- What Envoy answers to gRPC-Web, as the statuses that native gRPC gets.
local GRPC_STATUS = {["404"] = "12", ["408"] = "4", ["429"] = "8", ["503"] = "14", ["504"] = "4"}

-- A JSON string of plain text. Envoy's own texts are ASCII; whatever else there is does not get through.
local function quoted(text)
  return '"' .. text:gsub('[^\32-\126]', "?"):gsub('["\\]', "\\%0") .. '"'
end

-- The JSON string literal, quotes and escapes as they are, that begins at position `start`.
local function literal(json, start)
  local at = start + 1
  while at <= #json do
    local byte = json:byte(at)
    if byte == 92 then at = at + 2 -- a backslash and what it escapes
    elseif byte == 34 then return json:sub(start, at)
    else at = at + 1 end
  end
end

-- The literal of the first member `name` whose value is a string. A quote inside a string is always escaped, so the
-- search never finds text that only looks like a member.
local function member(json, name)
  local _, colon = json:find('"' .. name .. '":', 1, true)
  if colon and json:byte(colon + 1) == 34 then return literal(json, colon + 1) end
end

-- The error in a google.rpc.Status as JSON; the status is nil when the one at hand is right.
local function from_service(json, known)
  local reason, message = member(json, "reason"), member(json, "message") or quoted(known.message)
  if reason then
    local code = member(json, "openai_code") or reason:lower()
    return message, member(json, "type"), member(json, "field"), code, STATUS_OF_REASON[reason]
  end
  for _, case in ipairs(STATUS_OF_MESSAGE) do
    if message:sub(1, #case.start) == case.start then
      known = BY_STATUS[case.status]
      return known.fixed and quoted(known.message) or message, quoted(known.type), nil, nil, case.status
    end
  end
  if known.fixed then message = quoted(known.message) end
  return message
end

local function reshape(handle, status)
  -- The body first: it may wait, and headers taken before a wait are no longer valid.
  local body = handle:body(true)
  local text = body:length() > 0 and body:getBytes(0, body:length()) or ""
  if text:sub(1, 9) == '{"error":' then return end

  local known = BY_STATUS[status] or OTHER
  local message, kind, param, code, better
  if text:sub(1, 8) == '{"code":' then
    message, kind, param, code, better = from_service(text, known)
  else
    if text == TIME_IS_OVER then better = "504" end
    known = BY_STATUS[better or status] or OTHER
    message = quoted((text == "" or known.fixed) and known.message or text)
  end
  local now = BY_STATUS[better or status] or OTHER
  kind = kind or quoted(now.type)
  code = code or (now.code and quoted(now.code)) or "null"
  local length = body:setBytes('{"error":{"message":' .. message .. ',"type":' .. kind .. ',"param":' ..
    (param or "null") .. ',"code":' .. code .. "}}")

  local headers = handle:headers()
  headers:replace("content-type", "application/json")
  headers:replace("content-length", tostring(length))
  if better then headers:replace(":status", better) end
  local delay = member(text, "retryDelay")
  local seconds = delay and tonumber(delay:match('^"([%d.]+)s"$'))
  if seconds then headers:replace("retry-after", string.format("%d", math.ceil(seconds))) end
end

-- A field of a protobuf message whose value is bytes, text or a message.
local function field(number, value)
  local length = #value
  local size = length < 128 and string.char(length) or string.char(128 + length % 128, math.floor(length / 128))
  return string.char(number * 8 + 2) .. size .. value
end

-- google.rpc.Status with an ErrorInfo, as bytes.
local function status_with_reason(code, known)
  local kind = field(1, "type") .. field(2, known.type)
  local info = field(1, known.reason) .. field(2, "mycel") .. field(3, kind)
  local any = field(1, "type.googleapis.com/google.rpc.ErrorInfo") .. field(2, info)
  return string.char(8, code) .. field(2, known.message) .. field(3, any)
end

-- Gives an error without details the ErrorInfo of its status.
local function explain(handle, headers)
  local code = headers:get("grpc-status")
  local known = code and GRPC_REASONS[code]
  if not known or headers:get("grpc-status-details-bin") then return end
  if known.only and not (headers:get("grpc-message") or ""):find(known.only, 1, true) then return end
  -- Both messages must be the same, or clients refuse the details.
  headers:replace("grpc-message", known.message)
  headers:replace("grpc-status-details-bin", handle:base64Escape(status_with_reason(tonumber(code), known)))
end

-- Turns an HTTP error into a gRPC one without messages, whose status is among the headers.
local function as_grpc(handle, status)
  handle:body(true):setBytes("")
  local headers = handle:headers()
  headers:replace(":status", "200")
  headers:replace("content-type", "application/grpc-web+proto")
  headers:replace("content-length", "0")
  headers:replace("grpc-status", GRPC_STATUS[status] or "13")
  headers:replace("grpc-message", (BY_STATUS[status] or OTHER).message)
  explain(handle, headers)
end

local function content_type_starts(headers, wanted)
  return (headers:get("content-type") or ""):sub(1, #wanted) == wanted
end

function envoy_on_request(handle)
  if content_type_starts(handle:headers(), "application/grpc-web") then
    handle:streamInfo():dynamicMetadata():set("mycel", "grpc_web", true)
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local status = headers:get(":status")
  if tonumber(status) < 400 then
    if content_type_starts(headers, "application/grpc") then explain(handle, headers) end
  elseif (handle:streamInfo():dynamicMetadata():get("mycel") or {}).grpc_web then
    as_grpc(handle, status)
  else
    reshape(handle, status)
  end
end
