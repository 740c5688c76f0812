export default function Rate() { return <main id="main" className="page" />; }
