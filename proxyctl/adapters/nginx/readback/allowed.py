"""Which directives a configuration of ours may hold, and where. Data only; refusals.py holds a text to it.

What is here shapes requests and answers. What is not here could bring code into nginx, read or write files of the
machine, send requests to somebody unknown, or change how the master runs; nginx has about 900 directives, and a list of
the bad ones would never be complete. Finer contexts are nginx's own business: it tests what passed here.
"""

from __future__ import annotations

from enum import StrEnum


class Context(StrEnum):
    MAIN = "the top level"
    EVENTS = "events"
    HTTP = "http"
    SERVER = "server"
    LOCATION = "location"
    UPSTREAM = "upstream"
    PAIRS = "a list of values"  # map, geo, split_clients: the first words are values, not directives
    REFUSED = "a block that was refused"  # nothing more is said about it


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_REQUESTS = _words("""
    absolute_redirect add_header add_trailer addition_types auth_request_set charset charset_types
    chunked_transfer_encoding client_body_buffer_size client_body_timeout client_header_buffer_size
    client_header_timeout client_max_body_size connection_pool_size default_type error_page etag expires gzip
    gzip_buffers gzip_comp_level gzip_disable gzip_http_version gzip_min_length gzip_proxied gzip_types gzip_vary
    http2 http2_chunk_size http2_max_concurrent_streams http2_recv_buffer_size http3 http3_max_concurrent_streams
    http3_stream_buffer_size if_modified_since quic_active_connection_id_limit quic_gso quic_retry
    ignore_invalid_headers keepalive_disable keepalive_min_timeout keepalive_requests keepalive_time keepalive_timeout
    large_client_header_buffers limit_conn_dry_run limit_conn_log_level limit_conn_status limit_req_dry_run
    limit_req_log_level limit_req_status lingering_close lingering_time lingering_timeout log_not_found log_subrequest
    max_ranges merge_slashes mirror_request_body msie_padding msie_refresh output_buffers port_in_redirect
    postpone_output real_ip_header real_ip_recursive recursive_error_pages request_pool_size reset_timedout_connection
    rewrite_log secure_link secure_link_md5 secure_link_secret send_lowat send_timeout server_name_in_redirect
    server_tokens set_real_ip_from sub_filter sub_filter_last_modified sub_filter_once sub_filter_types
    subrequest_output_buffer_size tcp_nodelay tcp_nopush types_hash_bucket_size types_hash_max_size
    underscores_in_headers uninitialized_variable_warn userid userid_domain userid_expires userid_flags userid_mark
    userid_name userid_p3p userid_path
""")
_TO_REPLICAS = _words("""
    proxy_buffer_size proxy_buffering proxy_buffers proxy_busy_buffers_size proxy_connect_timeout proxy_cookie_domain
    proxy_cookie_flags proxy_cookie_path proxy_force_ranges proxy_headers_hash_bucket_size proxy_headers_hash_max_size
    proxy_hide_header proxy_http_version proxy_ignore_client_abort proxy_ignore_headers proxy_intercept_errors
    proxy_limit_rate proxy_max_temp_file_size proxy_next_upstream proxy_next_upstream_timeout proxy_next_upstream_tries
    proxy_pass_header proxy_pass_request_body proxy_pass_request_headers proxy_read_timeout proxy_redirect
    proxy_request_buffering proxy_send_lowat proxy_send_timeout proxy_set_body proxy_set_header proxy_socket_keepalive
    proxy_temp_file_write_size
    grpc_buffer_size grpc_connect_timeout grpc_hide_header grpc_ignore_headers grpc_intercept_errors grpc_next_upstream
    grpc_next_upstream_timeout grpc_next_upstream_tries grpc_pass_header grpc_read_timeout grpc_send_timeout
    grpc_set_header grpc_socket_keepalive
    proxy_ssl_certificate proxy_ssl_certificate_key proxy_ssl_ciphers proxy_ssl_name proxy_ssl_protocols
    proxy_ssl_server_name proxy_ssl_session_reuse proxy_ssl_trusted_certificate proxy_ssl_verify proxy_ssl_verify_depth
    grpc_ssl_certificate grpc_ssl_certificate_key grpc_ssl_ciphers grpc_ssl_name grpc_ssl_protocols
    grpc_ssl_server_name grpc_ssl_session_reuse grpc_ssl_trusted_certificate grpc_ssl_verify grpc_ssl_verify_depth
""")
_ENCRYPTION = _words("""
    ssl_buffer_size ssl_ciphers ssl_early_data ssl_ecdh_curve ssl_prefer_server_ciphers ssl_protocols
    ssl_reject_handshake ssl_session_cache ssl_session_tickets ssl_session_timeout
""")
# Below http only, and never on the control server: proxyctl asks there often, and must be answered.
REFUSALS = _words("allow auth_delay auth_request deny limit_conn limit_rate limit_rate_after limit_req mirror satisfy")
_DECISIONS = _words("break internal return rewrite set stub_status")
# refusals.py looks at their arguments.
_HELD = _words("access_log disable_symlinks error_log open_file_cache")
_SHARED = _REQUESTS | _TO_REPLICAS | _ENCRYPTION | _HELD

DIRECTIVES: dict[Context, frozenset[str]] = {
    Context.MAIN: _words("""
        error_log pcre_jit pid timer_resolution user worker_priority worker_processes worker_rlimit_nofile
        worker_shutdown_timeout working_directory
    """),
    Context.EVENTS: _words("accept_mutex accept_mutex_delay multi_accept worker_aio_requests worker_connections"),
    Context.HTTP: _SHARED
    | _words("""
        client_body_temp_path fastcgi_temp_path limit_conn_zone limit_req_zone log_format map_hash_bucket_size
        map_hash_max_size proxy_temp_path scgi_temp_path server_names_hash_bucket_size server_names_hash_max_size
        uwsgi_temp_path variables_hash_bucket_size variables_hash_max_size
    """),
    Context.SERVER: _SHARED
    | REFUSALS
    | _DECISIONS
    | _words("client_body_temp_path listen proxy_temp_path server_name ssl_certificate ssl_certificate_key"),
    Context.LOCATION: _SHARED
    | REFUSALS
    | _DECISIONS
    | _words("alias auth_basic auth_basic_user_file grpc_pass proxy_pass"),
    Context.UPSTREAM: _words("""
        hash ip_hash keepalive keepalive_requests keepalive_time keepalive_timeout least_conn random server zone
    """),
}

BLOCKS: dict[Context, dict[str, Context]] = {
    **{context: {} for context in Context},
    Context.MAIN: {"events": Context.EVENTS, "http": Context.HTTP},
    Context.HTTP: {
        "geo": Context.PAIRS,
        "map": Context.PAIRS,
        "server": Context.SERVER,
        "split_clients": Context.PAIRS,
        "types": Context.PAIRS,
        "upstream": Context.UPSTREAM,
    },
    Context.SERVER: {"if": Context.LOCATION, "location": Context.LOCATION},
    Context.LOCATION: {"if": Context.LOCATION, "limit_except": Context.LOCATION, "location": Context.LOCATION},
}

_REASONS = {
    ("load_module", "ssl_engine", "perl", "js_", "lua_"): "it brings code into nginx",
    ("include",): "what it reads would be checked by nobody",
    ("alias", "root", "try_files", "index", "autoindex", "auth_basic", "ssl_", "proxy_ssl_"): "it opens files",
    ("env", "user", "pid", "error_log", "daemon", "master_process", "working_directory"): "proxyctl runs nginx",
    ("proxy_pass", "grpc_pass", "fastcgi_", "uwsgi_", "scgi_", "memcached_"): "requests go from locations to our pools",
    ("proxy_store", "proxy_cache"): "it writes files",
}


def why_not(name: str) -> str:
    """Why a directive or a block is not taken where it stands."""
    homes = [str(home) for home in Context if name in DIRECTIVES.get(home, ()) or name in BLOCKS[home]]
    if homes:
        return f"it belongs into {' or '.join(homes)}; is a brace missing, or one too many?"
    if "_by_lua" in name:
        return "it brings code into nginx"
    for beginnings, reason in _REASONS.items():
        if name.startswith(beginnings):
            return reason
    return "it is not among those that a template may use"
