"""A test executes each code block of the how-to pages, the tutorial and the README."""

import re
from pathlib import Path

import pytest
from howtos import PAGES, README, all_blocks, read

TESTS = Path(__file__).parent
PLUGINS = TESTS.parent / "plugins"
TUTORIAL = "../tutorial.md"

EXECUTED = {
    "addresses.md": [("toml", "test_addresses")],
    "archives.md": [("toml", "test_archives")],
    "balancers.md": [
        ("toml", "test_dhcp_names_the_shared_address_and_another_node_has_it"),
        ("", "test_keepalived_moves_the_address_of_a_killed_node"),
        ("console", "test_the_health_check_of_the_page"),
        ("", "test_keepalived_moves_the_address_of_a_killed_node"),
        ("", "test_nftables_moves_the_clients_of_a_killed_node"),
        ("sh", "test_nftables_moves_the_clients_of_a_killed_node"),
        ("nginx", "test_nginx_moves_the_clients_of_a_killed_node"),
        ("console", "test_nginx_moves_the_clients_of_a_killed_node"),
        ("sh", "test_nginx_moves_the_clients_of_a_killed_node"),
    ],
    "callout.md": [("toml", "test_callout"), ("", "test_cached_answer_is_used_and_logged_while_the_api_fails")],
    "cluster.md": [
        ("console", "test_two_nodes_as_the_page_sets_them_up"),
        ("", "test_two_nodes_as_the_page_sets_them_up"),
        ("console", "test_two_nodes_as_the_page_sets_them_up"),
        ("toml", "test_two_nodes_as_the_page_sets_them_up"),
        ("console", "test_two_nodes_as_the_page_sets_them_up"),
        ("console", "test_two_nodes_as_the_page_sets_them_up"),
        ("console", "test_two_nodes_as_the_page_sets_them_up"),
    ],
    "command-line.md": [
        ("toml", "test_the_command_line_howto"),
        ("console", "test_the_command_line_howto"),
        ("console", "test_the_command_line_howto"),
        ("console", "test_the_command_line_howto"),
        ("console", "test_the_command_line_howto"),
        ("console", "test_completion_works_in_each_shell"),
    ],
    "embedding.md": [
        ("python", "test_the_service_of_the_howto"),
        ("python", "test_the_log_of_the_howto"),
        ("python", "test_the_configuration_of_the_howto"),
        ("python", "test_the_test_of_the_howto"),
        ("python", "test_the_session_of_the_howto"),
    ],
    "emulab.md": [
        ("toml", "test_the_testbed_of_the_page"),
        ("toml", "test_the_testbed_of_the_page"),
        ("console", "test_the_testbed_of_the_page"),
        ("toml", "test_the_images_of_the_page"),
    ],
    "from-dnsmasq.md": [
        ("", "test_import_of_the_page"),
        ("console", "test_import_of_the_page"),
        ("toml", "test_import_of_the_page"),
        ("console", "test_dnsmasq_of_the_page_is_replaced"),
    ],
    "from-fbtftp.md": [
        ("console", "test_distributions_work_with_the_wheel"),
        ("python", "test_the_backend_of_the_page_for_fbtftp"),
    ],
    "from-isc-dhcpd.md": [
        ("", "test_import_of_the_page"),
        ("", "test_import_of_the_page"),
        ("console", "test_import_of_the_page"),
        ("toml", "test_import_of_the_page"),
        ("console", "test_leases_of_dhcpd_are_imported_as_its_page_says"),
    ],
    "from-kea.md": [
        ("", "test_import_of_the_page"),
        ("", "test_import_of_the_page"),
        ("console", "test_import_of_the_page"),
        ("toml", "test_import_of_the_page"),
        ("console", "test_kea_of_the_page_is_replaced"),
    ],
    "from-pixiecore.md": [
        ("", "test_the_page_for_pixiecore_names_its_command"),
        ("", "test_the_script_of_the_page_for_pixiecore_boots"),
        ("console", "test_the_script_of_the_page_for_pixiecore_has_its_files"),
        ("toml", "test_configurations_are_valid_and_name_a_file_after_ipxe"),
    ],
    "from-python-tx-tftp.md": [
        ("console", "test_distributions_work_with_the_wheel"),
        ("python", "test_the_backend_of_the_page_for_python_tx_tftp"),
    ],
    "from-tftpd-hpa.md": [
        ("", "test_import_of_the_page"),
        ("", "test_import_of_the_page"),
        ("console", "test_import_of_the_page"),
        ("toml", "test_import_of_the_page"),
        ("console", "test_tftpd_hpa_of_the_page_is_replaced"),
    ],
    "http.md": [
        ("toml", "test_http"),
        ("", "test_http"),
        ("toml", "test_http_boot_from_another_server"),
        ("console", "test_packages_that_a_page_installs_are_extras"),
        ("toml", "test_https"),
        ("", "test_https"),
    ],
    "images.md": [
        ("console", "test_images_of_the_howto"),
        ("toml", "test_images_of_the_howto"),
        ("toml", "test_family_of_the_howto"),
    ],
    "install.md": [
        ("console", "test_install_of_the_howto"),
        ("toml", "test_install_of_the_howto"),
        ("toml", "test_host_file_of_the_howto_is_toml"),
        ("toml", "test_machine_table_of_the_howto"),
    ],
    "ipv6.md": [("toml", "test_ipv6_beside_a_dhcpv6_server"), ("toml", "test_ipv6_with_addresses")],
    "late-networks.md": [("toml", "test_configurations_are_valid_and_name_a_file_after_ipxe")],
    "leases.md": [
        ("console", "test_leases"),
        ("console", "test_leases"),
        ("", "test_the_page_shows_the_output_of_import"),
    ],
    "lint.md": [("console", "test_the_page_shows_the_output_of_lint")],
    "multicast.md": [
        ("toml", "test_four_clients_receive_a_file_when_the_master_is_killed"),
        ("console", "test_four_clients_receive_a_file_when_the_master_is_killed"),
        ("toml", "test_machines_receive_an_image_as_the_page_says"),
        ("console", "test_machines_receive_an_image_as_the_page_says"),
        ("toml", "test_an_image_is_uploaded_as_the_page_says"),
        ("console", "test_an_image_is_uploaded_as_the_page_says"),
        ("console", "test_the_commands_of_the_page"),
        ("console", "test_the_commands_of_the_page"),
    ],
    "monitoring.md": [
        ("toml", "test_the_log_of_the_monitoring_howto"),
        ("json", "test_the_log_of_the_monitoring_howto"),
        ("console", "test_the_fields_of_the_journal_in_the_monitoring_howto"),
        ("toml", "test_the_metrics_of_the_monitoring_howto"),
        ("yaml", "test_prometheus_takes_the_configuration_and_the_rules"),
        ("toml", "test_the_traces_of_the_monitoring_howto"),
        ("toml", "test_the_webhook_of_the_monitoring_howto"),
        ("json", "test_the_webhook_of_the_monitoring_howto"),
        ("python", "test_the_receiver_of_the_monitoring_howto"),
    ],
    "machines.md": [("console", "test_commands_of_the_howto_print_its_output")],
    "metadata.md": [
        ("toml", "test_the_configuration_of_the_howto_serves_the_metadata_that_it_shows"),
        ("toml", "test_the_configuration_of_the_howto_serves_the_metadata_that_it_shows"),
        ("jinja", "test_the_configuration_of_the_howto_serves_the_metadata_that_it_shows"),
    ],
    "next-boot.md": [
        ("console", "test_next_boot"),
        ("", "test_next_boot"),
        ("toml", "test_next_boot"),
        ("", "test_a_chain_loop_is_broken_and_reported"),
    ],
    "power.md": [
        ("console", "test_the_page_wakes_a_machine"),
        ("sh", "test_the_wheels_with_requirements_of_their_own_bring_their_plugins"),
        ("toml", "test_the_page_switches_a_machine"),
        ("toml", "test_the_page_switches_a_machine"),
        ("console", "test_the_page_switches_a_machine"),
    ],
    "packages.md": [
        ("console", "test_the_package_is_installed_serves_is_upgraded_and_purged"),
        ("console", "test_the_package_is_installed_serves_is_upgraded_and_purged"),
        ("console", "test_the_rpm_is_built_and_its_files_work"),
        ("console", "test_the_environment_of_the_page"),
        ("console", "test_the_image_serves_and_knows_whether_it_is_healthy"),
        ("console", "test_the_image_serves_and_knows_whether_it_is_healthy"),
    ],
    "personas.md": [
        ("", "test_readme_without_a_configuration"),
        ("", "test_the_persona_of_a_special_treatment_is_named"),
        ("toml", "test_personas"),
        ("toml", "test_personas"),
        ("toml", "test_personas"),
        ("toml", "test_personas"),
        ("toml", "test_network_gear"),
    ],
    "plugins.md": [
        ("python", "test_the_plugin_of_the_howto"),
        ("toml", "test_the_plugin_of_the_howto_as_a_distribution"),
        ("python", "test_the_classmethod_of_the_howto"),
        ("python", "test_the_plugin_of_the_howto"),
        ("python", "test_the_plugin_of_the_howto"),
        ("ini", "test_the_plugin_of_the_howto_as_a_distribution"),
    ],
    "postgresql.md": [
        ("console", "test_no_lease_is_acknowledged_while_the_database_is_away"),
        ("toml", "test_leases_move_to_postgresql_and_survive_there"),
        ("console", "test_leases_move_to_postgresql_and_survive_there"),
        ("sql", "test_leases_move_to_postgresql_and_survive_there"),
    ],
    "pxe-menu.md": [("toml", "test_pxe_menu"), ("toml", "test_pxelinux_finds_its_configuration")],
    "recordings.md": [("console", "test_the_recording_of_the_howto")],
    "secure-boot.md": [
        ("", "test_secure_boot"),
        ("grub", "test_secure_boot"),
        ("toml", "test_secure_boot"),
        ("", "test_secure_boot"),
    ],
    "storm.md": [
        ("console", "test_the_storm_of_the_howto"),
        ("toml", "test_the_storm_of_the_howto"),
        ("toml", "test_the_scenario_of_the_howto"),
    ],
    "systemd.md": [],
    "templates.md": [
        ("", "test_the_menu"),
        ("toml", "test_the_menu"),
        ("toml", "test_templates"),
        ("jinja", "test_templates"),
        ("toml", "test_templates"),
        ("toml", "test_templates"),
        ("console", "test_the_page_shows_what_bootfw_render_prints"),
    ],
    "web.md": [
        ("console", "test_the_probe_of_the_web_howto"),
        ("toml", "test_the_configuration_of_the_web_howto"),
        ("toml", "test_the_configuration_of_the_web_howto"),
        ("console", "test_the_probe_of_the_web_howto"),
        ("python", "test_the_service_of_the_web_howto"),
    ],
    "why-did-it-not-boot.md": [("", "test_the_boots_of_the_howto")] * 5,
    TUTORIAL: [
        ("console", "test_the_tutorial_without_a_machine"),
        ("console", "test_the_tutorial_without_a_machine"),
        ("", "test_the_tutorial_without_a_machine"),
        ("toml", "test_the_tutorial_without_a_machine"),
        ("console", "test_the_tutorial_without_a_machine"),
        ("console", "test_the_tutorial_without_a_machine"),
        ("", "test_the_tutorial_without_a_machine"),
        ("console", "test_the_tutorial_without_a_machine"),
        ("console", "test_the_tutorial_without_a_machine"),
        ("console", "test_the_tutorial_with_a_machine"),
        ("console", "test_the_tutorial_with_a_machine"),
    ],
    README: [
        ("console", "test_without_privileges_it_serves_above_port_1024_and_logs_a_fetch_command"),
        ("console", "test_readme_without_a_configuration"),
        ("", "test_readme_without_a_configuration"),
        ("toml", "test_readme_configuration"),
        ("python", "test_readme_program"),
    ],
}
"""Page -> (language, the test that executes it) of each code block, in their order."""


def fenced(page: str) -> int:
    return len(re.findall(r"^\s*(?:```|~~~)", read(page), re.MULTILINE))


@pytest.mark.parametrize("page", sorted({*PAGES, README, TUTORIAL, *EXECUTED}))
def test_each_code_block_is_executed_by_a_test(page: str) -> None:
    assert page in EXECUTED, f"no test executes {page}: write one that does, and name it here"
    assert page in {*PAGES, README, TUTORIAL}, f"there is no {page} any more"
    languages = [language for language, _ in all_blocks(page)]
    assert languages == [language for language, _ in EXECUTED[page]], "each code block needs a test that executes it"
    assert fenced(page) == 2 * len(languages), "a code block that howtos.py does not find"


def test_the_tests_exist() -> None:
    defined = {
        name: path.read_text()
        for path in [*TESTS.rglob("test_*.py"), *PLUGINS.glob("*/tests/test_*.py")]
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }
    named = {(page, name) for page, entries in EXECUTED.items() for _, name in entries}
    assert [entry for entry in sorted(named) if entry[1] not in defined] == []
