//! What the data plane cannot carry out, as it is told to the control plane.

use crate::{ClosedPort, PortStates};
use weft_model::ResourceName;
use weft_xds::Problem;

/// The ports of a gateway that are not open.
pub(super) fn of_ports(states: &PortStates) -> Vec<Problem> {
    states.iter().filter_map(|(port, state)| Some(of_port(*port, state.as_ref().err()?))).collect()
}

fn of_port(port: u16, closed: &ClosedPort) -> Problem {
    let ClosedPort { address, reason, fix, origin } = closed;
    Problem {
        resource: ResourceName::GatewayListeners.to_string(),
        field: format!("listeners[port={port}]"),
        message: format!("port {port} of {} cannot be opened at {address}: {reason}", origin.object()),
        fix: fix.clone(),
        origin: origin.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::Origin;

    #[test]
    fn closed_ports_are_told_and_open_ones_are_not() {
        let address = "127.0.0.1:8081".parse().expect("an address");
        let origin = Origin { kind: "Gateway".into(), namespace: "default".into(), name: "two".into(), ..Origin::default() };
        let closed = ClosedPort { address, reason: "in use".into(), fix: "end it".into(), origin };
        let told = of_ports(&[(80, Ok(address)), (81, Err(closed))].into());
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].message, "port 81 of Gateway default/two cannot be opened at 127.0.0.1:8081: in use");
        assert_eq!((told[0].resource.as_str(), told[0].field.as_str()), ("gateway-listeners", "listeners[port=81]"));
    }
}
